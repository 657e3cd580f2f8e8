//! Bytes from the kernel to values: ring-buffer records, fanotify events and perf records.
//!
//! Pure and bounded: no I/O, no panic on any input, nothing kept that is larger than its limit in [`model::limits`].

mod fanotify;
mod fields;
mod perf;
mod record;

pub use fanotify::{FanotifyEvent, fanotify_events};
pub use perf::{Mapping, PerfRecord, Seen, perf_record};
pub(crate) use record::kernel_device;
pub use record::{Arguments, ExecRecord, Header, LoadRecord, Record, record};

/// A record that is not what the kernel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends before its fields or the strings it announces do.
    #[error("record is cut short")]
    Short,
    /// Its kind is not known.
    #[error("unknown record kind {0}")]
    Kind(u32),
    /// A length field contradicts the record's size.
    #[error("record length does not fit its content")]
    Length,
}

#[cfg(test)]
use record::user_device;
#[cfg(test)]
mod tests;
