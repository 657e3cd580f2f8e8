//! The store against real databases.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod aggregate;
mod change;
mod crash;
mod fields;
mod filter;
mod list;
mod migrate;
mod mute;
mod notify;
mod record;
mod scan;
mod support;
