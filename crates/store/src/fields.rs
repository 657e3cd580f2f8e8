//! The fields of a finding as filters, groups and orders name them: kind, where they are kept, spelling.

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

/// A field that filters can name.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Path in `snake_case`. Ends in a dot where the key of a map follows.
    pub path: &'static str,
    /// What its values are.
    pub kind: Kind,
    pub(crate) place: Place,
}

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text: `=` and `:`.
    Text,
    /// One of these words: `=` and `:`.
    Enum(&'static [&'static str]),
    /// RFC 3339 or milliseconds since the epoch: `=` and order.
    Time,
    /// Number: `=` and order. One that is not set is 0, as in the messages.
    Number,
    /// `true` or `false`; `false` when not set.
    Flag,
    /// Whatever the source or user put there.
    Open,
}

/// Where the values of a field are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `finding.key` and parent, under this name of a part of the finding.
    Name(&'static str),
    /// A column of numbers.
    Column(&'static str),
    /// A term, and its id in a column of `finding`.
    TermColumn(&'static str),
    /// Terms.
    Term,
}

const fn text(path: &'static str) -> Field {
    Field {
        path,
        kind: Kind::Text,
        place: Place::Term,
    }
}

const fn number(path: &'static str) -> Field {
    Field {
        path,
        kind: Kind::Number,
        place: Place::Term,
    }
}

const fn flag(path: &'static str) -> Field {
    Field {
        path,
        kind: Kind::Flag,
        place: Place::Term,
    }
}

/// A name that is the finding's own, with this at the end.
const fn name(path: &'static str, end: &'static str) -> Field {
    Field {
        path,
        kind: Kind::Text,
        place: Place::Name(end),
    }
}

const fn column(path: &'static str, kind: Kind, column: &'static str) -> Field {
    Field {
        path,
        kind,
        place: Place::Column(column),
    }
}

const fn term_column(path: &'static str, column: &'static str) -> Field {
    Field {
        path,
        kind: Kind::Text,
        place: Place::TermColumn(column),
    }
}

/// Every field with a meaning of its own. Beside them any path under a root of [`OPEN_ROOTS`] is allowed.
pub const FIELDS: &[Field] = &[
    name("name", ""),
    name("canonical_name", ""),
    name("security_marks.name", "/securityMarks"),
    name("security_marks.canonical_name", "/securityMarks"),
    term_column("parent", "parent_id"),
    term_column("category", "category_id"),
    term_column("resource_name", "resource_id"),
    column("state", Kind::Enum(STATES), "state"),
    column("severity", Kind::Enum(SEVERITIES), "severity"),
    column("mute", Kind::Enum(MUTES), "mute"),
    column("finding_class", Kind::Enum(CLASSES), "class"),
    column("event_time", Kind::Time, "event_time"),
    column("create_time", Kind::Time, "create_time"),
    column("source_properties.Occurrences", Kind::Number, "occurrences"),
    column("source_properties.First_Seen", Kind::Time, "first_seen"),
    text("module_name"),
    text("parent_display_name"),
    text("external_uri"),
    text("description"),
    text("next_steps"),
    text("mute_initiator"),
    column("mute_update_time", Kind::Time, "mute_update_time"),
    text("mute_info.dynamic_mute_records.mute_config"),
    text("indicator.ip_addresses"),
    text("indicator.domains"),
    text("indicator.uris"),
    text("indicator.signatures.yara_rule_signature.yara_rule"),
    text("indicator.signatures.memory_hash_signature.binary_family"),
    text("indicator.signatures.signature_type"),
    text("indicator.signatures.memory_hash_signature.detections.binary"),
    number("indicator.signatures.memory_hash_signature.detections.percent_pages_matched"),
    text("mitre_attack.primary_tactic"),
    text("mitre_attack.primary_techniques"),
    text("mitre_attack.additional_tactics"),
    text("mitre_attack.additional_techniques"),
    text("mitre_attack.version"),
    text("processes.name"),
    text("processes.binary.path"),
    text("processes.binary.sha256"),
    number("processes.binary.size"),
    number("processes.binary.hashed_size"),
    flag("processes.binary.partially_hashed"),
    text("processes.binary.contents"),
    text("processes.binary.disk_path.partition_uuid"),
    text("processes.binary.disk_path.relative_path"),
    text("processes.binary.operations.type"),
    text("processes.binary.file_load_state"),
    text("processes.script.path"),
    text("processes.script.sha256"),
    number("processes.script.size"),
    number("processes.script.hashed_size"),
    flag("processes.script.partially_hashed"),
    text("processes.script.contents"),
    text("processes.script.disk_path.partition_uuid"),
    text("processes.script.disk_path.relative_path"),
    text("processes.script.operations.type"),
    text("processes.script.file_load_state"),
    text("processes.libraries.path"),
    text("processes.libraries.sha256"),
    number("processes.libraries.size"),
    number("processes.libraries.hashed_size"),
    flag("processes.libraries.partially_hashed"),
    text("processes.libraries.contents"),
    text("processes.libraries.disk_path.partition_uuid"),
    text("processes.libraries.disk_path.relative_path"),
    text("processes.libraries.operations.type"),
    text("processes.libraries.file_load_state"),
    text("processes.args"),
    flag("processes.arguments_truncated"),
    text("processes.env_variables.name"),
    text("processes.env_variables.val"),
    flag("processes.env_variables_truncated"),
    number("processes.pid"),
    number("processes.parent_pid"),
    number("processes.user_id"),
    text("containers.name"),
    text("containers.uri"),
    text("containers.image_id"),
    text("containers.labels.name"),
    text("containers.labels.value"),
    Field {
        path: "containers.create_time",
        kind: Kind::Time,
        place: Place::Term,
    },
    text("files.path"),
    text("files.sha256"),
    number("files.size"),
    number("files.hashed_size"),
    flag("files.partially_hashed"),
    text("files.contents"),
    text("files.disk_path.partition_uuid"),
    text("files.disk_path.relative_path"),
    text("files.operations.type"),
    text("files.file_load_state"),
    text("connections.destination_ip"),
    text("connections.source_ip"),
    number("connections.destination_port"),
    number("connections.source_port"),
    text("connections.protocol"),
    text("kubernetes.pods.name"),
    text("kubernetes.pods.ns"),
    text("kubernetes.pods.labels.name"),
    text("kubernetes.pods.labels.value"),
    text("kubernetes.nodes.name"),
    text("resource.display_name"),
    text("resource.type"),
    text("resource.cloud_provider"),
    text("resource.service"),
    text("resource.location"),
    text("resource.gcp_metadata.project"),
    text("resource.gcp_metadata.project_display_name"),
    text("resource.gcp_metadata.parent"),
    text("resource.gcp_metadata.parent_display_name"),
    text("resource.gcp_metadata.organization"),
    text("resource.gcp_metadata.folders.resource_folder"),
    text("resource.gcp_metadata.folders.resource_folder_display_name"),
    text("resource.resource_path_string"),
    Field {
        path: "security_marks.marks.",
        kind: Kind::Open,
        place: Place::Term,
    },
    Field {
        path: "source_properties.",
        kind: Kind::Open,
        place: Place::Term,
    },
    Field {
        path: "external_systems.",
        kind: Kind::Open,
        place: Place::Term,
    },
];

/// SCC's own names of the resource's fields in filters, from its first version on, and where they are now.
const ALIASES: &[(&str, &str)] = &[
    // The finding's resource name is its resource's name.
    ("resource.name", "resource_name"),
    ("resource.project_name", "resource.gcp_metadata.project"),
    (
        "resource.project_full_name",
        "resource.gcp_metadata.project",
    ),
    (
        "resource.project_display_name",
        "resource.gcp_metadata.project_display_name",
    ),
    ("resource.parent_name", "resource.gcp_metadata.parent"),
    (
        "resource.parent_display_name",
        "resource.gcp_metadata.parent_display_name",
    ),
    (
        "resource.folders.resource_folder",
        "resource.gcp_metadata.folders.resource_folder",
    ),
    (
        "resource.folders.resource_folder_display_name",
        "resource.gcp_metadata.folders.resource_folder_display_name",
    ),
    (
        "resource.organization",
        "resource.gcp_metadata.organization",
    ),
];

/// Fields of `google.cloud.securitycenter.v2.Finding` and of its resource that are kept for those who send them. Any path
/// below is allowed.
pub const OPEN_ROOTS: &[&str] = &[
    "access",
    "affected_resources",
    "agent",
    "agent_anomaly",
    "agent_sessions",
    "ai_model",
    "application",
    "attack_exposure",
    "backup_disaster_recovery",
    "chokepoint",
    "cloud_armor",
    "cloud_dlp_data_profile",
    "cloud_dlp_inspection",
    "compliances",
    "contacts",
    "data_access_events",
    "data_flow_events",
    "data_retention_deletion_events",
    "database",
    "disk",
    "exfiltration",
    "group_memberships",
    "iam_bindings",
    "ip_rules",
    "job",
    "kernel_rootkit",
    "kubernetes",
    "load_balancers",
    "log_entries",
    "mute_info",
    "networks",
    "notebook",
    "org_policies",
    "resource.aws_metadata",
    "resource.azure_metadata",
    "resource.resource_path",
    "security_posture",
    "toxic_combination",
    "vertex_ai",
    "vulnerability",
];

/// The fields that are enumerations, with their names by number.
pub(crate) fn enumerations() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    FIELDS.iter().filter_map(|field| match field.kind {
        Kind::Enum(names) => Some((field.path, names)),
        _ => None,
    })
}

/// The column that holds the number of this enumeration.
pub(crate) fn column_of_enum(path: &str) -> Option<&'static str> {
    FIELDS
        .iter()
        .find_map(|field| match (field.kind, field.place) {
            (Kind::Enum(_), Place::Column(column)) if field.path == path => Some(column),
            _ => None,
        })
}

/// What a path in a filter stands for.
pub(crate) struct Found {
    /// The path as terms name it.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

/// Parts of a finding's snapshot that no filter sees: almost every line and name in them is one of its own.
const UNFILTERED: [&str; 2] = [
    "source_properties.Investigation.logTail",
    "source_properties.Investigation.recentFindings",
];

/// Whether filters do not see a field, or what it lies in.
pub(crate) fn is_unfiltered(path: &str) -> bool {
    UNFILTERED.iter().any(|unfiltered| {
        path.strip_prefix(unfiltered)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Looks a path up. `Err` holds fields that may have been meant.
pub(crate) fn find(path: &str) -> Result<Found, Vec<&'static str>> {
    let path = ALIASES
        .iter()
        .find(|(alias, _)| *alias == path)
        .map_or(path, |(_, path)| path);
    let found = |path: &str, kind, place| Found {
        path: path.to_owned(),
        kind,
        place,
    };
    if let Some(field) = FIELDS.iter().find(|field| field.path == path) {
        return Ok(found(path, field.kind, field.place));
    }
    let map = FIELDS.iter().find(|field| {
        field.path.ends_with('.')
            && path
                .strip_prefix(field.path)
                .is_some_and(|key| !key.is_empty())
    });
    if let Some(field) = map {
        // SCC: keys of marks do not know case.
        let lower = path.to_lowercase();
        let marks = field.path.starts_with("security_marks");
        return Ok(found(
            if marks { &lower } else { path },
            field.kind,
            field.place,
        ));
    }
    let is_below = |root: &&str| {
        path.strip_prefix(*root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if OPEN_ROOTS.iter().any(is_below) {
        return Ok(found(path, Kind::Open, Place::Term));
    }
    Err(similar(path))
}

/// The path of a message whose members are fields, such as `containers`, under its present name.
pub(crate) fn find_repeated(path: &str) -> Option<String> {
    let member = |known: &str| {
        known
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    if FIELDS.iter().any(|field| member(field.path)) {
        return Some(path.to_owned());
    }
    let (alias, now) = ALIASES.iter().find(|(alias, _)| member(alias))?;
    let rest = alias.strip_prefix(path)?;
    now.strip_suffix(rest).map(str::to_owned)
}

fn similar(path: &str) -> Vec<&'static str> {
    let last = path.rsplit('.').next().unwrap_or_default();
    FIELDS
        .iter()
        .map(|field| field.path)
        .filter(|known| {
            known.starts_with(path)
                || known.rsplit('.').next() == Some(last)
                || last.starts_with(known)
        })
        .take(4)
        .collect()
}

/// `env_variables` as ProtoJSON spells it. Names that are not `snake_case` stay.
pub(crate) fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        if character == '_' {
            upper = true;
        } else if upper {
            camel.push(character.to_ascii_uppercase());
            upper = false;
        } else {
            camel.push(character);
        }
    }
    camel
}
