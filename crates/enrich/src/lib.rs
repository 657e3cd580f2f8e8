//! Context for events: the only stage that touches `/proc`, images and the bytes of files.
//!
//! Start with [`Enricher`]: observations of sensors go in, [`model::enriched::EnrichedEvent`]s come out. [`provenance`]
//! decides whether a file is built in to its image, modified or added; [`containers`] finds out whose process it is.
//!
//! Invariants: what a container chooses (paths, mounts, arguments, bytes, rates) is bounded by [`model::limits`] and
//! parsed by total functions; a fact that cannot be had is an `Unknown` or `Missing` with its reason, never a guess; a
//! large file never holds up another container's events. Detection is not done here.
//!
//! Tests: units beside the code; `tests/it` judges files in real overlay mounts and mount namespaces, as root.

#![forbid(unsafe_code)]

mod container_state;
pub mod containers;
mod draft;
pub mod elf;
mod enricher;
mod file_facts;
mod file_kind;
pub mod hash;
mod judge;
mod losses;
mod proc;
mod process_table;
pub mod provenance;
mod running;
mod script;
mod script_arguments;
mod shares;
mod slow;
mod waiting_room;
mod weighted;

pub use enricher::{Config, Enricher, Feedback};
pub use file_kind::Interpreter;
pub use judge::Scanner;
