//! Throw-away containers that perform a detector's simulation: image, engines, and cleaning up after them.
//!
//! [`container::run`] does one simulation from start to end. Whatever happens on the way, an error or a SIGINT included,
//! the container, its image and its files are removed.

mod archive;
pub(crate) mod container;
mod engines;
pub(crate) mod external;
mod image;
mod runc;
pub(crate) mod watcher;
