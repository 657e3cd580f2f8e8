//! What a user may change about detectors and what findings report.

use std::collections::BTreeMap;

use model::finding::Severity;
use serde::Deserialize;

use crate::{catalogue, spec::Spec};

/// Settings of all detectors, as they stand in the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// By detector id.
    pub detectors: BTreeMap<String, DetectorSettings>,
    /// Report the values of environment variables. Off: names only, and `[redacted]` for each value.
    pub report_env_values: bool,
    /// Report arguments as they were, and record them so. Off: what looks like a secret is replaced, see [`crate::redact`].
    pub report_secrets_in_args: bool,
}

/// Settings of one detector.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorSettings {
    /// Run it, or not. Left out: as declared.
    pub enabled: Option<bool>,
    /// Severity of its findings, e.g. `"LOW"`. Left out: as declared.
    pub severity: Option<Severity>,
}

/// Settings that name detectors which do not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such detector: {}", .0.join(", "))]
pub struct UnknownDetectors(pub Vec<String>);

impl Settings {
    /// Checks that every detector named exists: a misspelled one would silently stay as it was.
    ///
    /// # Errors
    /// With the names that do not exist.
    pub fn check(&self) -> Result<(), UnknownDetectors> {
        let unknown: Vec<String> = self
            .detectors
            .keys()
            .filter(|id| catalogue::find(id).is_none())
            .cloned()
            .collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(UnknownDetectors(unknown))
        }
    }

    /// Whether the detector runs.
    pub fn is_enabled(&self, spec: &Spec) -> bool {
        self.detectors
            .get(spec.id)
            .and_then(|settings| settings.enabled)
            .unwrap_or(spec.enabled_by_default)
    }

    /// Severity that the user wants for the detector's findings.
    pub fn severity(&self, spec: &Spec) -> Option<Severity> {
        self.detectors.get(spec.id)?.severity
    }
}
