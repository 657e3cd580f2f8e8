//! The fields of a finding as filters, groups and orders name them.

/// Names of `Finding.State` by number.
pub(crate) const STATES: &[&str] = &["STATE_UNSPECIFIED", "ACTIVE", "INACTIVE"];

/// Names of `Finding.Severity` by number.
pub(crate) const SEVERITIES: &[&str] =
    &["SEVERITY_UNSPECIFIED", "CRITICAL", "HIGH", "MEDIUM", "LOW"];

/// Names of `Finding.Mute` by number.
pub(crate) const MUTES: &[&str] = &["MUTE_UNSPECIFIED", "MUTED", "UNMUTED", "UNDEFINED"];

/// Names of `Finding.FindingClass` by number.
pub(crate) const CLASSES: &[&str] = &[
    "FINDING_CLASS_UNSPECIFIED",
    "THREAT",
    "VULNERABILITY",
    "MISCONFIGURATION",
    "OBSERVATION",
    "SCC_ERROR",
    "POSTURE_VIOLATION",
    "TOXIC_COMBINATION",
    "SENSITIVE_DATA_RISK",
    "CHOKEPOINT",
];
