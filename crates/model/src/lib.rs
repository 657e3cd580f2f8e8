//! The vocabulary of Hullwatch: events, enriched events, provenance, detections, findings, limits, recordings.
//!
//! Start with [`event::Event`] (what a sensor saw), [`enriched::EnrichedEvent`] (the same with its context) and
//! [`finding::Finding`] (what a user reads, in the shape of SCC v2).
//!
//! Invariants: no I/O, no async, no clock. An open descriptor may travel through [`event::Observation`], nothing here
//! reads from it. Everything a container chooses is bounded by a constant of [`limits`].

#![forbid(unsafe_code)]

pub mod detection;
pub mod enriched;
pub mod event;
pub mod finding;
pub mod hex;
pub mod limits;
pub mod mountinfo;
pub mod proc_files;
pub mod provenance;
pub mod recording;
pub mod text;
pub mod time;

pub use text::Text;
pub use time::Timestamp;
