//! Which values of a finding are indexed: one pass over the typed finding, no database.

use std::collections::{BTreeMap, BTreeSet};

use model::finding::{File, Finding, FindingResult};
use serde_json::Value;

use crate::filter::to_v6;
use crate::mute;
use crate::record::{FIRST_SEEN, OCCURRENCES};

/// Terms of one finding. A finding has some thirty; one with hundreds of libraries or marks keeps the first of them.
pub(crate) const TERMS_MAX: usize = 512;

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
];

/// Name of the column of fields without a column of their own.
const OTHERS: &str = "#others";

/// Repeated fields whose elements are told apart: `contains` asks what one element has.
pub(crate) const ELEMENTS: &[&str] = &[
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

/// All terms of a finding and its resource, each with the elements of the repeated field that have it; 0 for fields that
/// are not within one.
pub(crate) fn of(result: &FindingResult) -> BTreeMap<Term, BTreeSet<u8>> {
    let mut terms = Terms::default();
    let finding = &result.finding;
    terms.add("parent", &finding.parent);
    terms.add("category", &finding.category);
    terms.add("resource_name", &finding.resource_name);
    terms.add("module_name", &finding.module_name);
    terms.add("parent_display_name", &finding.parent_display_name);
    terms.add("external_uri", &finding.external_uri);
    for record in mute::MuteInfo::of(result).dynamic_mute_records {
        terms.add(mute::RECORDS, &record.mute_config);
    }
    terms.add_all("indicator.ip_addresses", &finding.indicator.ip_addresses);
    terms.add_all("indicator.domains", &finding.indicator.domains);
    terms.add_all("indicator.uris", &finding.indicator.uris);
    if let Some(mitre) = &finding.mitre_attack {
        terms.add("mitre_attack.primary_tactic", &mitre.primary_tactic);
        terms.add_all("mitre_attack.primary_techniques", &mitre.primary_techniques);
        terms.add_all("mitre_attack.additional_tactics", &mitre.additional_tactics);
        terms.add_all(
            "mitre_attack.additional_techniques",
            &mitre.additional_techniques,
        );
    }
    for (number, container) in finding.containers.iter().enumerate() {
        terms.enter(number);
        terms.add("containers.name", &container.name);
        terms.add("containers.uri", &container.uri);
        terms.add("containers.image_id", &container.image_id);
    }
    for (number, process) in finding.processes.iter().enumerate() {
        terms.enter(number);
        terms.add("processes.name", &process.name);
        terms.add_file("processes.binary", process.binary.as_ref());
        terms.add_file("processes.script", process.script.as_ref());
        for library in &process.libraries {
            terms.add_file("processes.libraries", Some(library));
        }
        terms.add_all("processes.args", &process.args);
    }
    for (number, file) in finding.files.iter().enumerate() {
        terms.enter(number);
        terms.add_file("files", Some(file));
    }
    for (number, connection) in finding.connections.iter().enumerate() {
        terms.enter(number);
        terms.add_json(
            "connections.destination_ip",
            connection.get("destinationIp"),
        );
        terms.add_json("connections.source_ip", connection.get("sourceIp"));
    }
    for (number, pod) in pods(finding).iter().enumerate() {
        terms.enter(number);
        terms.add_json("kubernetes.pods.name", pod.get("name"));
        terms.add_json("kubernetes.pods.ns", pod.get("ns"));
    }
    terms.enter(0);
    terms.add_resource(result);
    for (key, value) in finding.security_marks.iter().flat_map(|marks| &marks.marks) {
        // SCC: keys and values of marks do not know case.
        let field = format!("security_marks.marks.{}", key.to_lowercase());
        terms.add(&field, value);
    }
    for (key, value) in &finding.source_properties {
        // Each finding would be a value of its own.
        if key != OCCURRENCES && key != FIRST_SEEN {
            terms.add_json(&format!("source_properties.{key}"), Some(value));
        }
    }
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
    terms.found
}

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
    let pods = finding
        .kubernetes
        .as_ref()
        .and_then(|value| value.get("pods"));
    pods.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[derive(Default)]
struct Terms {
    found: BTreeMap<Term, BTreeSet<u8>>,
    element: u8,
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
        if ADDRESSES.contains(&field)
            && let Ok(address) = value.parse()
        {
            self.insert(
                format!("{field}{ADDRESS_SUFFIX}"),
                format!("{:032x}", u128::from(to_v6(address))),
            );
        }
        self.insert(field.to_owned(), beginning(value).to_owned());
    }

    fn insert(&mut self, field: String, value: String) {
        let term = Term { field, value };
        if self.found.len() < TERMS_MAX || self.found.contains_key(&term) {
            self.found.entry(term).or_default().insert(self.element);
        }
    }

    fn add_all(&mut self, field: &str, values: &[String]) {
        for value in values {
            self.add(field, value);
        }
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
            Some(Value::Object(_) | Value::Null) | None => {}
        }
    }

    fn add_resource(&mut self, result: &FindingResult) {
        let resource = &result.resource;
        self.add("resource.display_name", &resource.display_name);
        self.add("resource.type", &resource.kind);
        self.add("resource.cloud_provider", &resource.cloud_provider);
        self.add("resource.service", &resource.service);
        self.add("resource.location", &resource.location);
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
