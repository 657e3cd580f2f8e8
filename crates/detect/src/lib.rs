//! Detectors: they judge enriched events and declare what a finding of theirs says.
//!
//! Start with [`Spec`] (the declaration of one detector), [`CATALOGUE`] (all of them) and [`Dispatcher`] (runs them).
//! [`finding::build`] turns a detection into a finding in the shape of Security Command Center, [`simulation`] and
//! [`samples`] hold the harmless act that raises each of them, [`docs`] prints their pages.
//!
//! Invariants: no I/O, no clock, no threads, no randomness. The same events in give the same detections out, in order.

#![forbid(unsafe_code)]

mod attack;
mod catalogue;
mod detectors;
mod dispatcher;
pub mod docs;
pub mod finding;
mod known;
mod next_steps;
mod openssl;
pub mod redact;
pub mod samples;
mod settings;
pub mod simulation;
mod spec;

pub use attack::{Attack, Technique};
pub use catalogue::{CATALOGUE, find};
pub use dispatcher::Dispatcher;
pub use settings::{DetectorSettings, Settings, UnknownDetectors};
pub use spec::{Detector, Spec, Stage};
