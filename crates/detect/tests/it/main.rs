//! The detectors from outside: recordings in, findings out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod samples;
