//! Placeholder.
pub mod containers;
