//! The findings store: durable findings, their index, and the filter language that selects them.
//!
//! Start with [`Store`]; [`Query`] asks it, [`filter::parse`] reads the language alone.
//!
//! Invariants: synchronous; knows nothing of the API, of sensors or of detectors. Every change is one transaction that
//! is on disk when the call returns. A filter asks the database with bound parameters which values are
//! meant, and reads the columns these are in; documents are read only to be shown. Every answer is of one snapshot.
//! Tested against real databases in `tests/it`, with a writer killed at random.

#![forbid(unsafe_code)]

mod access;
mod aggregate;
mod audit;
mod by_name;
mod change;
mod chunk;
mod column;
mod database;
mod document;
mod error;
mod fields;
pub mod filter;
mod histogram;
mod index;
mod inventory;
mod layout;
mod mute;
pub mod name;
mod notify;
mod operations;
mod order;
mod page;
mod piece;
mod prune;
mod query;
mod record;
mod resolve;
mod resource;
mod run;
mod select;
mod sql;
mod terms;

use std::path::Path;

use model::Timestamp;

pub use access::{Credential, CredentialKind};
pub use aggregate::{Group, GroupQuery, Groups};
pub use audit::AuditEntry;
pub use change::{Change, FINDING_BYTES_MAX, copy_path};
pub use error::Error;
pub use fields::{FIELDS, Field, Kind, OPEN_ROOTS};
pub use histogram::{BUCKETS_MAX, Bucket, Histogram};
pub use inventory::ContainerState;
pub use layout::ELEMENTS;
pub use mute::{DynamicMuteRecord, MuteInfo, StaticMute};
pub use notify::{Delivery, NotifierLock, SinkState, UNCONFIGURED_DAYS_MAX};
pub use operations::OperationLock;
pub use prune::RETENTION_DAYS_DEFAULT;
pub use query::{
    FindingId, IDS_IN_ORDER_MAX, PAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Page, Query,
};
pub use record::{FIRST_SEEN, NOT_INDEXED, OCCURRENCES, Outcome, Recorded};
pub use resource::{
    MuteConfig, MuteConfigType, NotificationConfig, Operation, Resource, ResourcePage, Source,
    StreamingConfig,
};
pub use run::{Gap, GapKind};

/// The store in a state directory. Share one per process; its methods take `&self` and may be called from any thread.
pub struct Store {
    database: database::Database,
}

impl Store {
    /// Opens the store, making or upgrading it as needed. Other processes may have it open too, for reading or writing.
    pub fn open(state_dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            database: database::Database::open(state_dir)?,
        })
    }

    /// Opens an existing store for reading only, e.g. while an agent writes to it.
    pub fn open_read_only(state_dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            database: database::Database::open_read_only(state_dir)?,
        })
    }
}

/// A time as columns hold it. Lasts until the year 2262.
fn ns(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp(u64::try_from(ns).unwrap_or(0))
}
