//! Which column holds a field, and which fields have parts that are told apart.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Fields that findings can be grouped by, beside enumerations. Each finding has a term of each; an empty one stands for
/// no value.
pub(crate) const GROUPED: &[&str] = &[
    "category",
    "resource_name",
    "module_name",
    "containers.name",
    "scope",
    "parent",
    "parent_display_name",
    "containers.uri",
    "mitre_attack.primary_tactic",
    "resource.type",
    "resource.display_name",
    "resource.gcp_metadata.project",
    "resource.gcp_metadata.project_display_name",
];

/// The columns, by the number under which they are stored, beside those that fields share: five of numbers, four of
/// enumerations, then terms.
const COLUMNS: &[&str] = &[
    "event_time",
    "create_time",
    "occurrences",
    "first_seen",
    "mute_update_time",
    "state",
    "severity",
    "mute",
    "class",
    "category",
    "resource_name",
    "module_name",
    "containers.name",
    "scope",
    "parent",
    "parent_display_name",
    "containers.uri",
    "mitre_attack.primary_tactic",
    "resource.type",
    "resource.display_name",
    "resource.gcp_metadata.project",
    "resource.gcp_metadata.project_display_name",
    "containers.image_id",
    "processes.name",
    "processes.binary.path",
    "processes.binary.sha256",
    "processes.script.path",
    "processes.script.sha256",
    "processes.libraries.path",
    "processes.libraries.sha256",
    "processes.args",
    "files.path",
    "files.sha256",
    "connections.destination_ip",
    "connections.destination_ip#address",
    "connections.source_ip",
    "connections.source_ip#address",
    "indicator.ip_addresses",
    "indicator.ip_addresses#address",
    "indicator.domains",
    "indicator.uris",
    "mitre_attack.primary_techniques",
    "mitre_attack.additional_tactics",
    "mitre_attack.additional_techniques",
    "external_uri",
    "mute_info.dynamic_mute_records.mute_config",
    "kubernetes.pods.name",
    "kubernetes.pods.ns",
    "resource.cloud_provider",
    "resource.service",
    "resource.location",
    "resource.gcp_metadata.parent",
    "resource.gcp_metadata.parent_display_name",
    "resource.gcp_metadata.organization",
    "resource.gcp_metadata.folders.resource_folder",
    "resource.gcp_metadata.folders.resource_folder_display_name",
    "processes#count",
    "containers#count",
    "files#count",
    "connections#count",
    "kubernetes.pods#count",
    "containers.labels.name",
    "containers.labels.value",
    "containers.create_time",
    "processes.pid",
    "processes.parent_pid",
    "processes.user_id",
    "processes.binary.size",
    "files.size",
    "connections.destination_port",
    "connections.source_port",
    "connections.protocol",
    "kubernetes.nodes.name",
    "mitre_attack.version",
    "indicator.signatures.memory_hash_signature.binary_family",
    "indicator.signatures.yara_rule_signature.yara_rule",
    "indicator.signatures.signature_type",
    "resource.resource_path_string",
    "mute_initiator",
    MARKS,
    "description",
    "next_steps",
    "processes.binary.hashed_size",
    "processes.binary.partially_hashed",
    "processes.binary.contents",
    "processes.binary.disk_path.partition_uuid",
    "processes.binary.disk_path.relative_path",
    "processes.binary.operations.type",
    "processes.binary.file_load_state",
    "processes.script.size",
    "processes.script.hashed_size",
    "processes.script.partially_hashed",
    "processes.script.contents",
    "processes.script.disk_path.partition_uuid",
    "processes.script.disk_path.relative_path",
    "processes.script.operations.type",
    "processes.script.file_load_state",
    "processes.libraries.size",
    "processes.libraries.hashed_size",
    "processes.libraries.partially_hashed",
    "processes.libraries.contents",
    "processes.libraries.disk_path.partition_uuid",
    "processes.libraries.disk_path.relative_path",
    "processes.libraries.operations.type",
    "processes.libraries.file_load_state",
    "processes.arguments_truncated",
    "processes.env_variables.name",
    "processes.env_variables.val",
    "processes.env_variables_truncated",
    "files.hashed_size",
    "files.partially_hashed",
    "files.contents",
    "files.disk_path.partition_uuid",
    "files.disk_path.relative_path",
    "files.operations.type",
    "files.file_load_state",
    "kubernetes.pods.labels.name",
    "kubernetes.pods.labels.value",
    "indicator.signatures.memory_hash_signature.detections.binary",
    "indicator.signatures.memory_hash_signature.detections.percent_pages_matched",
    "processes.libraries#element",
    "processes.env_variables#element",
    "containers.labels#element",
    "kubernetes.pods.labels#element",
    "source_properties.Container_Id",
    "source_properties.Detector",
    "source_properties.Pid",
    "source_properties.Parent_Pid",
    "source_properties.Host_Pid",
    "source_properties.Host_Parent_Pid",
    "source_properties.Process_Creation_Timestamp.seconds",
    "source_properties.Process_Creation_Timestamp.nanos",
];

/// Fields whose values are mostly whole numbers that few findings share. Columns hold such a number itself in place of the
/// id of a value: a dictionary of them would be as long as the list of findings. These have a column of their own, and
/// findings are neither grouped nor ordered by them.
pub(crate) const HELD_AS_NUMBERS: &[&str] = &[
    "processes.pid",
    "processes.parent_pid",
    "source_properties.Pid",
    "source_properties.Parent_Pid",
    "source_properties.Host_Pid",
    "source_properties.Host_Parent_Pid",
    "source_properties.Process_Creation_Timestamp.seconds",
    "source_properties.Process_Creation_Timestamp.nanos",
];

/// The bit that tells a number that a column holds itself from the id of a value.
pub(crate) const IS_NUMBER: u32 = 1 << 31;

/// Security marks share a column.
pub(crate) const MARKS: &str = "security_marks.marks.";

/// The first of the columns that all other fields share, as their names decide.
const SHARED: u8 = 192;

const _: () = assert!(COLUMNS.len() <= SHARED as usize);

/// Repeated fields whose elements are told apart: `contains` asks what one element has.
pub const ELEMENTS: &[&str] = &[
    "processes",
    "containers",
    "files",
    "connections",
    "kubernetes.pods",
];

/// Lists of objects within these, or elsewhere.
pub(crate) const LISTS: &[&str] = &[
    "processes.libraries",
    "processes.env_variables",
    "processes.binary.operations",
    "processes.script.operations",
    "processes.libraries.operations",
    "files.operations",
    "containers.labels",
    "kubernetes.pods.labels",
    "kubernetes.nodes",
    "indicator.signatures",
    "indicator.signatures.memory_hash_signature.detections",
    "resource.gcp_metadata.folders",
    "mute_info.dynamic_mute_records",
];

/// Elements that are told apart. The next number stands for all that follow, which are indexed as a whole too.
pub(crate) const ELEMENTS_MAX: u8 = 63;

/// Makes the name of the column that holds the number of elements.
pub(crate) const COUNT_SUFFIX: &str = "#count";

/// Makes the name of the field that holds each object within another value, or each element of a list of objects, as JSON.
pub(crate) const ELEMENT_SUFFIX: &str = "#element";

static NUMBERS_BY_NAME: LazyLock<HashMap<&str, u8>> =
    LazyLock::new(|| COLUMNS.iter().copied().zip(0..).collect());

/// The number of the column that holds a field.
pub(crate) fn column_number(field: &str) -> u8 {
    let field = if field.starts_with(MARKS) {
        MARKS
    } else {
        field
    };
    let shared = || {
        // FNV-1a: the same for ever.
        let hash = field.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3_u64)
        });
        SHARED + (hash % (256 - u64::from(SHARED))) as u8
    };
    NUMBERS_BY_NAME.get(field).copied().unwrap_or_else(shared)
}

/// Fields of which a finding has a column of its own.
pub(crate) fn has_column(field: &str) -> bool {
    NUMBERS_BY_NAME.contains_key(field)
}

/// Fields whose values are addresses, so that networks can be searched.
pub(crate) const ADDRESSES: &[&str] = &[
    "indicator.ip_addresses",
    "connections.destination_ip",
    "connections.source_ip",
];

/// Makes the name of the field that holds the same addresses as 32 hex digits, which sort as numbers do.
pub(crate) const ADDRESS_SUFFIX: &str = "#address";

#[cfg(test)]
mod tests {
    use super::*;

    /// In a shared column a number would be that of any field.
    #[test]
    fn numbers_are_held_where_no_other_field_is() {
        for field in HELD_AS_NUMBERS {
            assert!(has_column(field), "{field}");
            assert!(!GROUPED.contains(field), "{field}");
        }
    }
}
