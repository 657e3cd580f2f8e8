//! Findings in the shape of Security Command Center v2 (`google.cloud.securitycenter.v2`), as ProtoJSON.
//!
//! Field names, enums and nesting are SCC's. Numbers of 64 bits are strings in JSON; fields with default values are left
//! out; both forms of a number and both spellings of a field are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;

/// A finding and the resource it is about: one entry of `ListFindingsResponse.listFindingsResults`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FindingResult {
    /// The finding.
    pub finding: Finding,
    /// The affected resource.
    pub resource: Resource,
}

/// The source property that says how many events were lost. When the same loss is found again, it is added up: each event is
/// in exactly one count.
pub const LOST_EVENTS: &str = "Lost_Events";

/// `google.cloud.securitycenter.v2.Finding`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Finding {
    /// `organizations/O/sources/S/locations/L/findings/F`.
    pub name: String,
    /// The same by the nearest ancestor of the resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub canonical_name: String,
    /// `organizations/O/sources/S/locations/L`.
    pub parent: String,
    /// Full resource name, e.g. `//run.googleapis.com/projects/P/locations/L/services/S`. Immutable.
    pub resource_name: String,
    /// Is it still to be dealt with.
    pub state: State,
    /// Display name of the detector. Immutable.
    pub category: String,
    /// A page outside SCC.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub external_uri: String,
    /// Facts that no other field holds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub source_properties: BTreeMap<String, Value>,
    /// Marks set by users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_marks: Option<SecurityMarks>,
    /// When it happened, the last time.
    pub event_time: Option<Timestamp>,
    /// When the record was made.
    pub create_time: Option<Timestamp>,
    /// How bad.
    pub severity: Severity,
    /// Muted or not.
    pub mute: Mute,
    /// Why it is muted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mute_info: Option<Value>,
    /// When mute last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mute_update_time: Option<Timestamp>,
    /// Who or what changed it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mute_initiator: String,
    /// Threat, error, ...
    pub finding_class: FindingClass,
    /// Indicators of compromise.
    #[serde(skip_serializing_if = "Indicator::is_empty")]
    pub indicator: Indicator,
    /// ATT&CK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mitre_attack: Option<MitreAttack>,
    /// Network connections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Value>,
    /// The process first, then its ancestors, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// Tickets and cases of other systems.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_systems: BTreeMap<String, Value>,
    /// Name of the detection service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent_display_name: String,
    /// What happened, in a sentence or two.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_steps: String,
    /// Module of the detector, e.g. `CLOUD_RUN_ADDED_MALICIOUS_BINARY_EXECUTED`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub module_name: String,
    /// The container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Container>,
    /// Kubernetes objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Value>,
    /// Files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// SCC fields that Hullwatch does not write itself but keeps for those who send them.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// `Finding.State`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Not set.
    #[default]
    StateUnspecified,
    /// To be dealt with.
    Active,
    /// Fixed, a non-issue, or otherwise dealt with.
    Inactive,
}

/// `Finding.Severity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    /// Not set.
    #[default]
    SeverityUnspecified,
    /// Can read, alter or delete data, or run code in existing resources.
    Critical,
    /// Can create new resources.
    High,
    /// Operational impact only.
    Medium,
    /// Minimal access.
    Low,
}

/// `Finding.Mute`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mute {
    /// Not set.
    MuteUnspecified,
    /// Hidden from the default view.
    Muted,
    /// Explicitly not muted.
    Unmuted,
    /// Never decided.
    #[default]
    Undefined,
}

/// `Finding.FindingClass`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FindingClass {
    /// Not set.
    #[default]
    FindingClassUnspecified,
    /// Unwanted activity.
    Threat,
    /// A weakness in software.
    Vulnerability,
    /// A weakness in configuration.
    Misconfiguration,
    /// A fact worth knowing.
    Observation,
    /// Something keeps the service from seeing.
    SccError,
    /// A posture changed.
    PostureViolation,
    /// Several weaknesses together.
    ToxicCombination,
    /// Sensitive data at risk.
    SensitiveDataRisk,
    /// Many attack paths meet here.
    Chokepoint,
}

/// `SecurityMarks`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityMarks {
    /// `<finding>/securityMarks`.
    pub name: String,
    /// Key and value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, String>,
    /// The same by canonical name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub canonical_name: String,
}

/// `Indicator`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Indicator {
    /// IP addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// Domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// Signatures (`Indicator.ProcessSignature`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Value>,
    /// URIs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
}

impl Indicator {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `MitreAttack`. Names are those of SCC's enums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MitreAttack {
    /// E.g. `EXECUTION`.
    pub primary_tactic: String,
    /// E.g. `NATIVE_API`; a sub-technique stands beside its parent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub primary_techniques: Vec<String>,
    /// More tactics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_tactics: Vec<String>,
    /// More techniques.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_techniques: Vec<String>,
    /// Version of ATT&CK.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// `Process`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// As in `/proc/PID/comm`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The program; the interpreter when there is a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<File>,
    /// Libraries it loaded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<File>,
    /// The script it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<File>,
    /// Arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Some arguments are missing.
    #[serde(skip_serializing_if = "is_false")]
    pub arguments_truncated: bool,
    /// Environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_variables: Vec<EnvironmentVariable>,
    /// Some variables are missing.
    #[serde(skip_serializing_if = "is_false")]
    pub env_variables_truncated: bool,
    /// Process id.
    #[serde(with = "int64", skip_serializing_if = "is_zero")]
    pub pid: i64,
    /// Parent's process id.
    #[serde(with = "int64", skip_serializing_if = "is_zero")]
    pub parent_pid: i64,
    /// User id; 0 is root.
    #[serde(with = "int64", skip_serializing_if = "is_zero")]
    pub user_id: i64,
}

/// `EnvironmentVariable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvironmentVariable {
    /// Name.
    pub name: String,
    /// Value, or a word that says it is redacted.
    pub val: String,
}

/// `File`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Bytes.
    #[serde(with = "int64", skip_serializing_if = "is_zero")]
    pub size: i64,
    /// Digest of the first `hashed_size` bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Bytes hashed.
    #[serde(with = "int64", skip_serializing_if = "is_zero")]
    pub hashed_size: i64,
    /// The digest is of a prefix only. Never so here: files are hashed whole.
    #[serde(skip_serializing_if = "is_false")]
    pub partially_hashed: bool,
    /// Prefix of the content (scripts).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contents: String,
    /// Where on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_path: Option<Value>,
    /// What was done to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Value>,
    /// `LOADED_BY_PROCESS` or `NOT_LOADED_BY_PROCESS`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file_load_state: String,
}

/// `Container`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image as configured.
    pub uri: String,
    /// Image by digest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// Labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
}

/// `Label`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Label {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// `Resource`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resource {
    /// Full resource name.
    pub name: String,
    /// Short name for people.
    pub display_name: String,
    /// E.g. `run.googleapis.com/Service`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `GOOGLE_CLOUD_PLATFORM`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cloud_provider: String,
    /// E.g. `run.googleapis.com`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Region or zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Project, folders and organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcp_metadata: Option<GcpMetadata>,
    /// Lowest to highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_path: Option<Value>,
    /// `organizations/O/projects/P`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_path_string: String,
}

/// `GcpMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GcpMetadata {
    /// Full resource name of the project.
    pub project: String,
    /// Its name for people.
    pub project_display_name: String,
    /// Full resource name of the parent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent_display_name: String,
    /// Folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Value>,
    /// Organization.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub organization: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// ProtoJSON's int64: written as a string, read from a string or a number.
mod int64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(i64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(value) => Ok(value),
            Form::Text(text) => text
                .parse()
                .map_err(|_| D::Error::custom("expected a 64-bit integer")),
        }
    }
}
