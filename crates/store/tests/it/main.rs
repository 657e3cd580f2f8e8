//! The store against real databases.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod aggregate;
mod crash;
mod filter;
mod list;
mod record;
mod support;
