//! Which values of a finding are indexed: one pass over the typed finding, no database.

use std::collections::BTreeSet;

use model::finding::{File, FindingResult};
use serde_json::Value;

use crate::fields::{CLASSES, MUTES, SEVERITIES, STATES};
use crate::filter::to_v6;
use crate::mute;

/// Terms of one finding. A finding has some thirty; one with hundreds of libraries or marks keeps the first of them.
pub(crate) const TERMS_MAX: usize = 512;

/// Bytes of one indexed value. A longer one is indexed by its beginning, so `:` sees that much of it.
pub(crate) const TERM_BYTES_MAX: usize = 1024;

/// Fields that findings can be grouped by, beside enumerations. Each finding has a term of each; an empty one stands for
/// no value. Those of [`FACETS`] are the first. Their numbers are stored: new ones go to the end.
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

/// Fields whose terms are counted in `tally`: quick filters, groups and histograms read counts, not findings.
pub(crate) const FACETS: &[&str] = GROUPED.split_at(5).0;

/// The number under which a field is stored in `grouping`.
pub(crate) fn grouped_number(field: &str) -> Option<i64> {
    let number = GROUPED.iter().position(|grouped| *grouped == field)?;
    i64::try_from(number).ok()
}

/// The facets of which a finding has exactly one value.
pub(crate) const SINGLE: &[&str] = FACETS.split_at(3).0;

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

/// All terms of a finding and its resource, each once.
pub(crate) fn of(result: &FindingResult) -> BTreeSet<Term> {
    let mut terms = Terms::default();
    let finding = &result.finding;
    terms.add("parent", &finding.parent);
    terms.add("category", &finding.category);
    terms.add("resource_name", &finding.resource_name);
    terms.add("state", STATES[finding.state as usize]);
    terms.add("severity", SEVERITIES[finding.severity as usize]);
    terms.add("mute", MUTES[finding.mute as usize]);
    terms.add("finding_class", CLASSES[finding.finding_class as usize]);
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
    for container in &finding.containers {
        terms.add("containers.name", &container.name);
        terms.add("containers.uri", &container.uri);
        terms.add("containers.image_id", &container.image_id);
    }
    for process in &finding.processes {
        terms.add("processes.name", &process.name);
        terms.add_file("processes.binary", process.binary.as_ref());
        terms.add_file("processes.script", process.script.as_ref());
        for library in &process.libraries {
            terms.add_file("processes.libraries", Some(library));
        }
        terms.add_all("processes.args", &process.args);
    }
    for file in &finding.files {
        terms.add_file("files", Some(file));
    }
    for connection in &finding.connections {
        terms.add_json(
            "connections.destination_ip",
            connection.get("destinationIp"),
        );
        terms.add_json("connections.source_ip", connection.get("sourceIp"));
    }
    let pods = finding
        .kubernetes
        .as_ref()
        .and_then(|value| value.get("pods"));
    for pod in pods.and_then(Value::as_array).into_iter().flatten() {
        terms.add_json("kubernetes.pods.name", pod.get("name"));
        terms.add_json("kubernetes.pods.ns", pod.get("ns"));
    }
    terms.add_resource(result);
    for (key, value) in finding.security_marks.iter().flat_map(|marks| &marks.marks) {
        // SCC: keys and values of marks do not know case.
        let field = format!("security_marks.marks.{}", key.to_lowercase());
        terms.add(&field, value);
    }
    for (key, value) in &finding.source_properties {
        if key != crate::record::OCCURRENCES {
            terms.add_json(&format!("source_properties.{key}"), Some(value));
        }
    }
    // A finding without a value is a group of its own, and counted as such.
    for field in GROUPED {
        let mut values = terms.found.iter();
        if !values.any(|term| term.field == *field) {
            terms.found.insert(Term {
                field: (*field).to_owned(),
                value: String::new(),
            });
        }
    }
    terms.found
}

#[derive(Default)]
struct Terms {
    found: BTreeSet<Term>,
}

impl Terms {
    fn add(&mut self, field: &str, value: &str) {
        if value.is_empty() || self.found.len() >= TERMS_MAX {
            return;
        }
        if ADDRESSES.contains(&field)
            && let Ok(address) = value.parse()
        {
            self.found.insert(Term {
                field: format!("{field}{ADDRESS_SUFFIX}"),
                value: format!("{:032x}", u128::from(to_v6(address))),
            });
        }
        self.found.insert(Term {
            field: field.to_owned(),
            value: beginning(value).to_owned(),
        });
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
