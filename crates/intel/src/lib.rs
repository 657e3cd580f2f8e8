//! Threat intelligence: which hashes are known to be malicious, and who says so.
//!
//! Start with [`Database`]. [`list`] reads lists as people publish them, [`compiled`] is the file they are compiled into. A
//! source of another kind (a feed format, YARA rules) is another module beside [`list`] and another kind of match.
//!
//! Invariants: uses nothing of the project but `model`. Reads and writes only the state directory and the files it is told to
//! import; nothing leaves the machine. A list is loaded whole or not at all, and the old state stays until the new one is
//! complete on disk.

#![forbid(unsafe_code)]

pub mod compiled;
mod database;
pub mod list;

pub use database::{Database, Error, Imported, List, Problem};
