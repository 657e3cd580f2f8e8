//! Notifications: a finding that is new, or whose state or severity changed, goes to the sinks that want it, once.
//!
//! The store queues a notification in the transaction of the change and keeps it until a sink has taken it. Each sink has a
//! thread of its own that sends what is due, so a dead one harms nothing else; what it missed waits, in order per finding, and
//! Coverage shows why. Of all processes on a state directory one sends, and another takes over when it ends. A crash between
//! sending and noting that it was sent sends again (at least once): every message carries an id to tell repeats by.

pub mod format;
mod sink;
mod syslog;
mod worker;

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

pub use format::Format;
pub use worker::{Notifier, start};
pub(crate) use worker::{is_notification_config, sink_of_topic};

/// `[sinks.NAME]` of the configuration file, by name.
pub type Config = BTreeMap<String, SinkConfig>;

/// One sink.
// No `deny_unknown_fields`: serde would count the keys of the flattened target as unknown. The target gets every key that
// is none of these, and denies.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SinkConfig {
    /// Which findings it gets, in the filter language; all that are not muted unless given. Beside them it gets what
    /// notification configs send whose `pubsubTopic` ends in `/topics/NAME`.
    #[serde(default = "not_muted")]
    pub filter: String,
    /// How a finding is written.
    #[serde(default)]
    pub format: Format,
    /// Where it goes.
    #[serde(flatten)]
    pub target: Target,
}

fn not_muted() -> String {
    "NOT mute=\"MUTED\"".to_owned()
}

/// Where a sink's messages go.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A POST to a URL. A status of 2xx means that it arrived.
    Webhook {
        /// `http://` or `https://`.
        url: String,
        /// File with the key of the signature; its content without white space at the end. Without one, nothing is signed.
        secret_file: Option<PathBuf>,
        /// File with PEM certificates to trust instead of the public ones.
        ca_file: Option<PathBuf>,
    },
    /// A line each at the end of a file.
    File {
        /// Made when it is not there; opened anew for each message, so that log rotation works.
        path: PathBuf,
    },
    /// A line each on standard output.
    // With braces: serde lets a variant without them have any key.
    Stdout {},
    /// RFC 5424.
    Syslog {
        /// `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///dev/log`.
        address: String,
    },
}

/// The configuration of sinks is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name.
    #[error("a sink's name is 1 to 64 letters, digits, '-' and '_', not {0:?}")]
    Name(String),
    /// The target cannot be used.
    #[error("sink {sink}: {why}")]
    Target {
        /// Name of the sink.
        sink: String,
        /// What is wrong.
        why: String,
    },
    /// The store could not be prepared.
    #[error("cannot make the store's sinks those of the configuration")]
    Lead(#[source] store::Error),
    /// No thread.
    #[error("cannot start the notifier's thread")]
    Thread(#[source] std::io::Error),
    /// The filter is wrong.
    #[error("sink {sink}")]
    Filter {
        /// Name of the sink.
        sink: String,
        /// What is wrong.
        source: store::filter::Error,
    },
}
