//! A detector's hit, before it becomes a finding.

use std::sync::Arc;

use crate::{
    enriched::{EnrichedEvent, File},
    finding::Severity,
};

/// What a detector found in one event. The declaration of the detector gives the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Id of the detector, e.g. `added_malicious_binary_executed`.
    pub detector: &'static str,
    /// The event that raised it.
    pub event: EnrichedEvent,
    /// One sentence, for a person: what happened to what.
    pub description: String,
    /// What makes this the same fact when it happens again, e.g. path and hash. The detector, the resource and the
    /// container are part of the identity anyway.
    pub identity: Vec<String>,
    /// The files it is about (libraries, the script); the process's binary is in the event.
    pub files: Vec<Arc<File>>,
    /// Severity, when it differs from the declared one.
    pub severity: Option<Severity>,
    /// More facts for `sourceProperties`: key (letters, digits, underscore) and value.
    pub properties: Vec<(&'static str, serde_json::Value)>,
}
