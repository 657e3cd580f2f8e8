//! The store against real databases.

mod record;
mod support;
