//! Which values of a finding are indexed: one pass over the typed finding, no database.

use std::collections::{BTreeMap, HashMap};

use model::finding::{File, Finding, FindingResult};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::fields::{OPEN_ROOTS, is_unfiltered};
use crate::filter::{push_snake_case, to_v6};
use crate::layout::{
    ADDRESS_SUFFIX, ADDRESSES, ELEMENT_SUFFIX, ELEMENTS_MAX, GROUPED, HELD_AS_NUMBERS, IS_NUMBER,
    MARKS,
};
use crate::record::{FIRST_SEEN, NOT_INDEXED, OCCURRENCES};

/// Terms of one finding, of which most have some 150. What a container can have many of comes last.
const TERMS_MAX: usize = 2048;

/// Terms of one field of one finding: a thousand arguments must not keep out its libraries.
const FIELD_TERMS_MAX: usize = 256;

/// Bytes of the name of an indexed field, which a source can make of its keys.
const FIELD_BYTES_MAX: usize = 1024;

/// Bytes of one indexed value. A longer one is indexed by its beginning, so `:` sees that much of it.
const TERM_BYTES_MAX: usize = 1024;

/// The same of fields that hold long texts, and of elements of lists.
const LONG_BYTES_MAX: usize = 8 * 1024;

/// The fields that hold long texts.
const LONG: &[&str] = &[
    "description",
    "next_steps",
    "processes.binary.contents",
    "processes.script.contents",
    "processes.libraries.contents",
    "files.contents",
];

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
        number(&self.value)
    }

    /// What columns hold of it without an id: a whole number that is written as numbers are, of a field of such.
    pub(crate) fn held_as(&self) -> Option<u32> {
        if !HELD_AS_NUMBERS.contains(&self.field.as_str()) {
            return None;
        }
        let number: u32 = self.value.parse().ok()?;
        (number < IS_NUMBER && number.to_string() == self.value).then_some(IS_NUMBER | number)
    }
}

/// What a text is as a number, where it is one.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Elements of a list, a bit each; the first for fields that are not within one.
#[derive(Clone, Copy)]
pub(crate) struct Elements(u64);

const _: () = assert!(ELEMENTS_MAX < 64);

impl Elements {
    fn of(element: u8) -> Self {
        Self(1 << element)
    }

    /// Ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..=ELEMENTS_MAX).filter(move |element| self.0 >> element & 1 == 1)
    }
}

/// What is indexed of a finding.
pub(crate) struct Indexed {
    /// Each with the elements of the repeated field that have it.
    pub(crate) terms: BTreeMap<Term, Elements>,
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
    terms.add("description", &finding.description);
    terms.add("next_steps", &finding.next_steps);
    terms.add_resource(result);
    terms.add("mute_initiator", &finding.mute_initiator);
    terms.add_value("mute_info", finding.mute_info.as_ref());
    for (key, value) in finding.security_marks.iter().flat_map(|marks| &marks.marks) {
        // SCC: keys and values of marks do not know case.
        terms.add(&format!("{MARKS}{}", key.to_lowercase()), value);
    }
    for (system, entry) in &finding.external_systems {
        terms.add_value(&format!("external_systems.{system}"), Some(entry));
    }
    for (key, value) in &finding.source_properties {
        // Each finding would be a value of its own.
        if ![OCCURRENCES, FIRST_SEEN, NOT_INDEXED, INVESTIGATION].contains(&key.as_str()) {
            terms.add_value(&format!("source_properties.{key}"), Some(value));
        }
    }
    for (key, value) in &finding.other {
        let mut field = String::new();
        push_snake_case(&mut field, key);
        if OPEN_ROOTS.contains(&field.as_str()) {
            terms.add_value(&field, Some(value));
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
        terms.add_signature(signature);
    }
    terms.add_processes(finding);
    terms.add_details(finding);
    terms.add_investigation(finding);
    terms.add_rest(finding);
    // A finding without a value is a group of its own, and counted as such.
    for field in GROUPED {
        let none = Term {
            field: (*field).to_owned(),
            value: String::new(),
        };
        let first = terms.found.range(&none..).next();
        if first.is_none_or(|(term, _)| term.field != *field) {
            terms.found.insert(none, Elements::of(0));
        }
    }
    if terms.cut > 0 {
        let cut = Term {
            field: format!("source_properties.{NOT_INDEXED}"),
            value: terms.cut.to_string(),
        };
        terms.found.insert(cut, Elements::of(0));
    }
    Indexed {
        terms: terms.found,
        cut: terms.cut,
    }
}

/// Source property with a snapshot of the container.
const INVESTIGATION: &str = "Investigation";

/// The part of it in which a container has most to say.
const CHOSEN_BY_CONTAINER: &str = "containerSettings";

/// What is indexed of a connection, its name in JSON, and whether it is a number.
const CONNECTION: [(&str, &str, bool); 5] = [
    ("connections.destination_ip", "destinationIp", false),
    ("connections.destination_port", "destinationPort", true),
    ("connections.source_ip", "sourceIp", false),
    ("connections.source_port", "sourcePort", true),
    ("connections.protocol", "protocol", false),
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
    let pods = finding.kubernetes.as_ref().and_then(|all| all.get("pods"));
    pods.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[derive(Default)]
struct Terms {
    found: BTreeMap<Term, Elements>,
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
        let kept = beginning(field, value);
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

    /// An element of a list, or another object, as JSON.
    fn add_element(&mut self, field: &str, element: &impl Serialize) {
        let field = format!("{field}{ELEMENT_SUFFIX}");
        let mut value = serde_json::to_string(element).unwrap_or_default();
        let is_long = value.len() > LONG_BYTES_MAX;
        if is_long {
            // It is there, but nothing is known of it.
            value = "{}".to_owned();
        }
        if !self.insert(field, value) || is_long {
            self.cut += 1;
        }
    }

    /// Returns false when there are too many already.
    fn insert(&mut self, field: String, value: String) -> bool {
        if field.len() > FIELD_BYTES_MAX {
            return false;
        }
        let term = Term { field, value };
        if let Some(elements) = self.found.get_mut(&term) {
            elements.0 |= Elements::of(self.element).0;
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
        self.found.insert(term, Elements::of(self.element));
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

    fn add_flag(&mut self, field: &str, flag: bool) {
        if flag {
            self.add(field, "true");
        }
    }

    /// What files are asked for by most.
    fn add_file(&mut self, field: &str, file: Option<&File>) {
        if let Some(file) = file {
            self.add(&format!("{field}.path"), &file.path);
            self.add(&format!("{field}.sha256"), &file.sha256);
            self.add_number(&format!("{field}.size"), file.size);
        }
    }

    fn add_file_details(&mut self, field: &str, file: Option<&File>) {
        let Some(file) = file else { return };
        self.add_number(&format!("{field}.hashed_size"), file.hashed_size);
        self.add_flag(&format!("{field}.partially_hashed"), file.partially_hashed);
        self.add(&format!("{field}.contents"), &file.contents);
        self.add(&format!("{field}.file_load_state"), &file.file_load_state);
        self.add_value(&format!("{field}.disk_path"), file.disk_path.as_ref());
        for operation in &file.operations {
            self.add_value(&format!("{field}.operations"), Some(operation));
        }
    }

    /// All that is in a value, by its keys, and each object in it as a whole.
    fn add_value(&mut self, field: &str, value: Option<&Value>) {
        match value {
            Some(Value::String(text)) => self.add(field, text),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                self.add(field, &value.to_string())
            }
            Some(Value::Array(values)) => {
                for value in values {
                    self.add_value(field, Some(value));
                }
            }
            Some(Value::Object(members)) => {
                self.add_members(field, members);
                self.add_element(field, members);
            }
            Some(Value::Null) | None => {}
        }
    }

    fn add_members(&mut self, field: &str, members: &Map<String, Value>) {
        for (key, value) in members {
            let mut path = format!("{field}.");
            if is_verbatim(&path) {
                path.push_str(key);
            } else {
                push_snake_case(&mut path, key);
            }
            self.add_value(&path, Some(value));
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
        if let Some(Value::Object(members)) = &finding.kubernetes {
            for (number, pod) in pods(finding).iter().enumerate() {
                self.enter(number);
                if let Value::Object(members) = pod {
                    self.add_members("kubernetes.pods", members);
                }
            }
            self.enter(0);
            for (key, value) in members.iter().filter(|(key, _)| *key != "pods") {
                let mut field = "kubernetes.".to_owned();
                push_snake_case(&mut field, key);
                self.add_value(&field, Some(value));
            }
            self.add_element("kubernetes", members);
        }
        for (number, container) in finding.containers.iter().enumerate() {
            self.enter(number);
            for label in &container.labels {
                self.add("containers.labels.name", &label.name);
                self.add("containers.labels.value", &label.value);
                self.add_element("containers.labels", label);
            }
        }
        self.enter(0);
    }

    fn add_signature(&mut self, signature: &Value) {
        self.add_value("indicator.signatures", Some(signature));
        let detections = signature.pointer("/memoryHashSignature/detections");
        for detection in detections
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice)
        {
            if detection.get("percentPagesMatched").is_none() {
                self.add_number(
                    "indicator.signatures.memory_hash_signature.detections.percent_pages_matched",
                    0,
                );
            }
        }
    }

    /// What a container can have many of last.
    fn add_processes(&mut self, finding: &Finding) {
        for (number, process) in finding.processes.iter().enumerate() {
            self.enter(number);
            self.add("processes.name", &process.name);
            self.add_file("processes.binary", process.binary.as_ref());
            self.add_file("processes.script", process.script.as_ref());
            self.add_number("processes.pid", process.pid);
            self.add_number("processes.parent_pid", process.parent_pid);
            self.add_number("processes.user_id", process.user_id);
            self.add_flag("processes.arguments_truncated", process.arguments_truncated);
            self.add_flag(
                "processes.env_variables_truncated",
                process.env_variables_truncated,
            );
        }
        for (number, connection) in finding.connections.iter().enumerate() {
            self.enter(number);
            for (field, key, is_number) in CONNECTION {
                match connection.get(key) {
                    None if is_number => self.add_number(field, 0),
                    value => self.add_value(field, value),
                }
            }
        }
        for (number, file) in finding.files.iter().enumerate() {
            self.enter(number);
            self.add_file("files", Some(file));
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
        self.enter(0);
    }

    /// What is asked for less.
    fn add_details(&mut self, finding: &Finding) {
        for (number, process) in finding.processes.iter().enumerate() {
            self.enter(number);
            self.add_file_details("processes.binary", process.binary.as_ref());
            self.add_file_details("processes.script", process.script.as_ref());
            for variable in &process.env_variables {
                self.add("processes.env_variables.name", &variable.name);
                self.add("processes.env_variables.val", &variable.val);
                self.add_element("processes.env_variables", variable);
            }
        }
        for (number, file) in finding.files.iter().enumerate() {
            self.enter(number);
            self.add_file_details("files", Some(file));
        }
        for (number, process) in finding.processes.iter().enumerate() {
            self.enter(number);
            for library in &process.libraries {
                self.add_file_details("processes.libraries", Some(library));
                self.add_element("processes.libraries", library);
            }
        }
        self.enter(0);
    }

    /// Elements that are not told apart, as a whole.
    fn add_rest(&mut self, finding: &Finding) {
        fn rest<T>(list: &[T]) -> &[T] {
            list.get(usize::from(ELEMENTS_MAX)..).unwrap_or_default()
        }
        for process in rest(&finding.processes) {
            self.add_element("processes", process);
        }
        for container in rest(&finding.containers) {
            self.add_element("containers", container);
        }
        for file in rest(&finding.files) {
            self.add_element("files", file);
        }
        for connection in rest(&finding.connections) {
            self.add_element("connections", connection);
        }
        for pod in rest(pods(finding)) {
            self.add_element("kubernetes.pods", pod);
        }
    }

    fn add_investigation(&mut self, finding: &Finding) {
        let Some(Value::Object(parts)) = finding.source_properties.get(INVESTIGATION) else {
            return;
        };
        let path = format!("source_properties.{INVESTIGATION}");
        let mut parts: Vec<_> = parts
            .iter()
            .filter(|(part, _)| !is_unfiltered(&format!("{path}.{part}")))
            .collect();
        parts.sort_by_key(|(part, _)| *part == CHOSEN_BY_CONTAINER);
        for (part, value) in &parts {
            self.add_value(&format!("{path}.{part}"), Some(value));
        }
        self.add_element(&path, &BTreeMap::from_iter(parts));
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
        self.add_value("resource.resource_path", resource.resource_path.as_ref());
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
            self.add_value("resource.gcp_metadata.folders", Some(folder));
            if let Some(id) = name.rsplit('/').next().filter(|id| !id.is_empty()) {
                self.add("scope", &format!("folders/{id}"));
            }
        }
    }
}

/// Fields that hold long texts.
pub(crate) fn is_long(field: &str) -> bool {
    LONG.contains(&field)
}

/// As much of a value as is indexed, cut between characters.
pub(crate) fn beginning<'a>(field: &str, value: &'a str) -> &'a str {
    let most = if is_long(field) {
        LONG_BYTES_MAX
    } else {
        TERM_BYTES_MAX
    };
    let mut end = value.len().min(most);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// Keys below this path are as their source wrote them; others are in `snake_case`.
pub(crate) fn is_verbatim(path: &str) -> bool {
    path.starts_with("source_properties.")
}
