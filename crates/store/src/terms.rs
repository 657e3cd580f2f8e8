//! Which values of a finding are indexed: one pass over the typed finding, no database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::finding::{File, Finding, FindingResult};
use serde_json::Value;

use crate::filter::to_v6;
use crate::mute;
use crate::record::{FIRST_SEEN, NOT_INDEXED, OCCURRENCES};

/// Terms of one finding, of which most have some forty. What a container can have many of comes last.
const TERMS_MAX: usize = 1024;

/// Terms of one field of one finding: a thousand arguments must not keep out its libraries.
const FIELD_TERMS_MAX: usize = 256;

/// Bytes of the name of an indexed field, which a source can make of its keys.
const FIELD_BYTES_MAX: usize = 1024;

/// Bytes of one indexed value. A longer one is indexed by its beginning, so `:` sees that much of it.
pub(crate) const TERM_BYTES_MAX: usize = 1024;

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

/// The columns, by the number under which they are stored: new ones go to the end. Three of numbers, four of
/// enumerations, one of all fields that have no column of their own, then terms.
const COLUMNS: &[&str] = &[
    "event_time",
    "create_time",
    "occurrences",
    "state",
    "severity",
    "mute",
    "class",
    OTHERS,
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
];

/// Name of the column of fields without a column of their own.
const OTHERS: &str = "#others";

/// Repeated fields whose elements are told apart: `contains` asks what one element has.
pub const ELEMENTS: &[&str] = &[
    "processes",
    "containers",
    "files",
    "connections",
    "kubernetes.pods",
];

/// Elements that are told apart. The last number stands for all that follow.
pub(crate) const ELEMENTS_MAX: u8 = 63;

/// Makes the name of the column that holds the number of elements.
pub(crate) const COUNT_SUFFIX: &str = "#count";

/// The number of the column that holds a field.
pub(crate) fn column_number(field: &str) -> u8 {
    let named = |name: &str| COLUMNS.iter().position(|column| *column == name);
    let number = named(field).or_else(|| named(OTHERS));
    number
        .and_then(|number| u8::try_from(number).ok())
        .unwrap_or(u8::MAX)
}

/// Fields of which a finding has a column of its own.
pub(crate) fn has_column(field: &str) -> bool {
    COLUMNS.contains(&field)
}

/// Fields whose values are addresses, so that networks can be searched.
pub(crate) const ADDRESSES: &[&str] = &[
    "indicator.ip_addresses",
    "connections.destination_ip",
    "connections.source_ip",
];

/// Makes the name of the field that holds the same addresses as 32 hex digits, which sort as numbers do.
pub(crate) const ADDRESS_SUFFIX: &str = "#address";

/// One indexed value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Term {
    /// Path of the field in `snake_case`, as filters name it.
    pub(crate) field: String,
    /// The value; numbers and booleans in their JSON form.
    pub(crate) value: String,
}

impl Term {
    /// The value as a number, where it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        self.value
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
    }
}

/// What is indexed of a finding.
pub(crate) struct Indexed {
    /// Each with the elements of the repeated field that have it; 0 for fields that are not within one.
    pub(crate) terms: BTreeMap<Term, BTreeSet<u8>>,
    /// How many values are not, or not to their end.
    pub(crate) cut: usize,
}

/// All terms of a finding and its resource. What decides where a finding is shown and what the user or the server wrote
/// comes before what a container chose, so that nothing in a container can keep it out.
pub(crate) fn of(result: &FindingResult) -> Indexed {
    let mut terms = Terms::default();
    let finding = &result.finding;
    terms.add("parent", &finding.parent);
    terms.add("category", &finding.category);
    terms.add("resource_name", &finding.resource_name);
    terms.add("module_name", &finding.module_name);
    terms.add("parent_display_name", &finding.parent_display_name);
    terms.add("external_uri", &finding.external_uri);
    terms.add_resource(result);
    for record in mute::MuteInfo::of(result).dynamic_mute_records {
        terms.add(mute::RECORDS, &record.mute_config);
    }
    terms.add("mute_initiator", &finding.mute_initiator);
    for (key, value) in finding.security_marks.iter().flat_map(|marks| &marks.marks) {
        // SCC: keys and values of marks do not know case.
        let field = format!("security_marks.marks.{}", key.to_lowercase());
        terms.add(&field, value);
    }
    for (key, value) in &finding.source_properties {
        // Each finding would be a value of its own.
        if ![OCCURRENCES, FIRST_SEEN, NOT_INDEXED, INVESTIGATION].contains(&key.as_str()) {
            terms.add_json(&format!("source_properties.{key}"), Some(value));
        }
    }
    if let Some(mitre) = &finding.mitre_attack {
        terms.add("mitre_attack.primary_tactic", &mitre.primary_tactic);
        terms.add_all("mitre_attack.primary_techniques", &mitre.primary_techniques);
        terms.add_all("mitre_attack.additional_tactics", &mitre.additional_tactics);
        terms.add_all(
            "mitre_attack.additional_techniques",
            &mitre.additional_techniques,
        );
        terms.add("mitre_attack.version", &mitre.version);
    }
    terms.add_containers(finding);
    terms.add_all("indicator.ip_addresses", &finding.indicator.ip_addresses);
    terms.add_all("indicator.domains", &finding.indicator.domains);
    terms.add_all("indicator.uris", &finding.indicator.uris);
    for signature in &finding.indicator.signatures {
        for (field, pointer) in SIGNATURES {
            terms.add_json(field, signature.pointer(pointer));
        }
    }
    terms.add_processes(finding);
    terms.enter(0);
    terms.add_investigation(finding);
    // A finding without a value is a group of its own, and counted as such.
    for field in GROUPED {
        let none = Term {
            field: (*field).to_owned(),
            value: String::new(),
        };
        let first = terms.found.range(&none..).next();
        if first.is_none_or(|(term, _)| term.field != *field) {
            terms.found.insert(none, BTreeSet::from([0]));
        }
    }
    if terms.cut > 0 {
        let cut = Term {
            field: format!("source_properties.{NOT_INDEXED}"),
            value: terms.cut.to_string(),
        };
        terms.found.insert(cut, BTreeSet::from([0]));
    }
    Indexed {
        terms: terms.found,
        cut: terms.cut,
    }
}

/// Source property with a snapshot of the container.
const INVESTIGATION: &str = "Investigation";

/// The parts of it in which a container says what it likes.
const CHOSEN_BY_CONTAINER: [&str; 2] = ["containerSettings", "logTail"];

/// What is indexed of a signature, and where it is.
const SIGNATURES: [(&str, &str); 3] = [
    (
        "indicator.signatures.memory_hash_signature.binary_family",
        "/memoryHashSignature/binaryFamily",
    ),
    (
        "indicator.signatures.yara_rule_signature.yara_rule",
        "/yaraRuleSignature/yaraRule",
    ),
    ("indicator.signatures.signature_type", "/signatureType"),
];

/// What is indexed of a connection, and its name in JSON.
const CONNECTION: [(&str, &str); 5] = [
    ("connections.destination_ip", "destinationIp"),
    ("connections.destination_port", "destinationPort"),
    ("connections.source_ip", "sourceIp"),
    ("connections.source_port", "sourcePort"),
    ("connections.protocol", "protocol"),
];

/// How many elements each of [`ELEMENTS`] has.
pub(crate) fn element_counts(finding: &Finding) -> [usize; 5] {
    [
        finding.processes.len(),
        finding.containers.len(),
        finding.files.len(),
        finding.connections.len(),
        pods(finding).len(),
    ]
}

fn pods(finding: &Finding) -> &[Value] {
    kubernetes(finding, "pods")
}

fn kubernetes<'a>(finding: &'a Finding, list: &str) -> &'a [Value] {
    let list = finding
        .kubernetes
        .as_ref()
        .and_then(|value| value.get(list));
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[derive(Default)]
struct Terms {
    found: BTreeMap<Term, BTreeSet<u8>>,
    /// Terms of each field, once one of them can have too many.
    counts: Option<HashMap<String, usize>>,
    element: u8,
    cut: usize,
}

impl Terms {
    /// What is added from now on is of this element.
    fn enter(&mut self, element: usize) {
        self.element =
            u8::try_from(element).map_or(ELEMENTS_MAX, |element| element.min(ELEMENTS_MAX));
    }

    fn add(&mut self, field: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let kept = beginning(value);
        if !self.insert(field.to_owned(), kept.to_owned()) || kept.len() < value.len() {
            self.cut += 1;
        }
        if ADDRESSES.contains(&field)
            && let Ok(address) = value.parse()
        {
            self.insert(
                format!("{field}{ADDRESS_SUFFIX}"),
                format!("{:032x}", u128::from(to_v6(address))),
            );
        }
    }

    /// Returns false when there are too many already.
    fn insert(&mut self, field: String, value: String) -> bool {
        if field.len() > FIELD_BYTES_MAX {
            return false;
        }
        let term = Term { field, value };
        if let Some(elements) = self.found.get_mut(&term) {
            elements.insert(self.element);
            return true;
        }
        if self.found.len() >= FIELD_TERMS_MAX {
            let found = &self.found;
            let counts = self.counts.get_or_insert_with(|| {
                let mut counts = HashMap::new();
                for term in found.keys() {
                    *counts.entry(term.field.clone()).or_default() += 1;
                }
                counts
            });
            let count = counts.entry(term.field.clone()).or_default();
            if *count >= FIELD_TERMS_MAX || found.len() >= TERMS_MAX {
                return false;
            }
            *count += 1;
        }
        self.found.insert(term, BTreeSet::from([self.element]));
        true
    }

    fn add_all(&mut self, field: &str, values: &[String]) {
        for value in values {
            self.add(field, value);
        }
    }

    /// 0 as well: it is a value, such as root's id, though JSON leaves it out.
    fn add_number(&mut self, field: &str, number: i64) {
        self.add(field, &number.to_string());
    }

    fn add_file(&mut self, field: &str, file: Option<&File>) {
        if let Some(file) = file {
            self.add(&format!("{field}.path"), &file.path);
            self.add(&format!("{field}.sha256"), &file.sha256);
        }
    }

    fn add_json(&mut self, field: &str, value: Option<&Value>) {
        match value {
            Some(Value::String(text)) => self.add(field, text),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                self.add(field, &value.to_string())
            }
            Some(Value::Array(values)) => {
                for value in values {
                    self.add_json(field, Some(value));
                }
            }
            Some(Value::Object(members)) => {
                for (key, value) in members {
                    self.add_json(&format!("{field}.{key}"), Some(value));
                }
            }
            Some(Value::Null) | None => {}
        }
    }

    fn add_containers(&mut self, finding: &Finding) {
        for (number, container) in finding.containers.iter().enumerate() {
            self.enter(number);
            self.add("containers.name", &container.name);
            self.add("containers.uri", &container.uri);
            self.add("containers.image_id", &container.image_id);
            if let Some(time) = container.create_time {
                self.add("containers.create_time", &time.to_string());
            }
        }
        for (number, pod) in pods(finding).iter().enumerate() {
            self.enter(number);
            self.add_json("kubernetes.pods.name", pod.get("name"));
            self.add_json("kubernetes.pods.ns", pod.get("ns"));
        }
        self.enter(0);
        for node in kubernetes(finding, "nodes") {
            self.add_json("kubernetes.nodes.name", node.get("name"));
        }
        for (number, container) in finding.containers.iter().enumerate() {
            self.enter(number);
            for label in &container.labels {
                self.add("containers.labels.name", &label.name);
                self.add("containers.labels.value", &label.value);
            }
        }
        self.enter(0);
    }

    fn add_investigation(&mut self, finding: &Finding) {
        let Some(Value::Object(parts)) = finding.source_properties.get(INVESTIGATION) else {
            return;
        };
        let mut parts: Vec<_> = parts.iter().collect();
        parts.sort_by_key(|(part, _)| CHOSEN_BY_CONTAINER.iter().position(|last| last == part));
        for (part, value) in parts {
            self.add_json(
                &format!("source_properties.{INVESTIGATION}.{part}"),
                Some(value),
            );
        }
    }

    /// What a container can have many of last.
    fn add_processes(&mut self, finding: &Finding) {
        for (number, process) in finding.processes.iter().enumerate() {
            self.enter(number);
            self.add("processes.name", &process.name);
            self.add_file("processes.binary", process.binary.as_ref());
            if let Some(binary) = &process.binary {
                self.add_number("processes.binary.size", binary.size);
            }
            self.add_file("processes.script", process.script.as_ref());
            self.add_number("processes.pid", process.pid);
            self.add_number("processes.parent_pid", process.parent_pid);
            self.add_number("processes.user_id", process.user_id);
        }
        for (number, connection) in finding.connections.iter().enumerate() {
            self.enter(number);
            for (field, key) in CONNECTION {
                self.add_json(field, connection.get(key));
            }
        }
        for (number, file) in finding.files.iter().enumerate() {
            self.enter(number);
            self.add_file("files", Some(file));
            self.add_number("files.size", file.size);
        }
        for (number, process) in finding.processes.iter().enumerate() {
            self.enter(number);
            for library in &process.libraries {
                self.add_file("processes.libraries", Some(library));
            }
        }
        for (number, process) in finding.processes.iter().enumerate() {
            self.enter(number);
            self.add_all("processes.args", &process.args);
        }
    }

    fn add_resource(&mut self, result: &FindingResult) {
        let resource = &result.resource;
        self.add("resource.display_name", &resource.display_name);
        self.add("resource.type", &resource.kind);
        self.add("resource.cloud_provider", &resource.cloud_provider);
        self.add("resource.service", &resource.service);
        self.add("resource.location", &resource.location);
        self.add(
            "resource.resource_path_string",
            &resource.resource_path_string,
        );
        let Some(metadata) = &resource.gcp_metadata else {
            return;
        };
        self.add("resource.gcp_metadata.project", &metadata.project);
        self.add(
            "resource.gcp_metadata.project_display_name",
            &metadata.project_display_name,
        );
        self.add("resource.gcp_metadata.parent", &metadata.parent);
        self.add(
            "resource.gcp_metadata.parent_display_name",
            &metadata.parent_display_name,
        );
        self.add("resource.gcp_metadata.organization", &metadata.organization);
        // A project goes by number and by id; queries by either find it.
        let last = metadata.project.rsplit('/').next().unwrap_or_default();
        for project in [last, &metadata.project_display_name] {
            if !project.is_empty() {
                self.add("scope", &format!("projects/{project}"));
            }
        }
        for folder in &metadata.folders {
            let name = folder.get("resourceFolder").and_then(Value::as_str);
            let name = name.unwrap_or_default();
            self.add("resource.gcp_metadata.folders.resource_folder", name);
            self.add_json(
                "resource.gcp_metadata.folders.resource_folder_display_name",
                folder.get("resourceFolderDisplayName"),
            );
            if let Some(id) = name.rsplit('/').next().filter(|id| !id.is_empty()) {
                self.add("scope", &format!("folders/{id}"));
            }
        }
    }
}

/// The first [`TERM_BYTES_MAX`] bytes, cut between characters.
pub(crate) fn beginning(value: &str) -> &str {
    let mut end = value.len().min(TERM_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}
