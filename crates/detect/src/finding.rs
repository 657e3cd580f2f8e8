//! Turns a detection into a finding in the shape of Security Command Center.

mod naming;
mod parts;
mod properties;

use std::fmt::Write as _;

use model::{
    Text, Timestamp,
    detection::Detection,
    finding::{Finding, FindingResult, Indicator, MitreAttack, Mute, Severity, State},
    hex,
};
use sha2::{Digest as _, Sha256};

use crate::{attack, settings::Settings, spec::Spec};

pub use naming::Naming;

/// What an investigator is told to look at, gathered when the finding is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Investigation {
    /// Last lines of the container's log, the newest last.
    pub log_tail: Vec<Text>,
    /// Other findings of the same container around that time.
    pub recent_findings: Vec<RecentFinding>,
}

/// Another finding of the same container.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentFinding {
    /// `Finding.name`.
    pub name: String,
    /// `Finding.category`.
    pub category: String,
    /// `Finding.severity`.
    pub severity: Severity,
    /// `Finding.eventTime`.
    pub event_time: Option<Timestamp>,
}

/// Builds the complete finding. `spec` is the declaration of the detector that raised `detection`.
///
/// Every text in it is valid Unicode and bounded. `createTime` is the event's time: the store, which alone knows whether the
/// finding is new, sets its own.
pub fn build(
    detection: &Detection,
    spec: &Spec,
    settings: &Settings,
    naming: &Naming,
    investigation: &Investigation,
) -> FindingResult {
    let event = &detection.event;
    let container = event.container.as_deref();
    let resource = naming.resource(event);
    let parent = naming.parent();
    let id = finding_id(detection, &resource.name);
    let name = format!("{parent}/findings/{id}");
    let severity = settings
        .severity(spec)
        .or(detection.severity)
        .unwrap_or(spec.severity);

    let finding = Finding {
        canonical_name: format!("{}/findings/{id}", naming.canonical_parent()),
        parent,
        resource_name: resource.name.clone(),
        state: if event.payload.is_end() {
            State::Inactive
        } else {
            State::Active
        },
        category: spec.category.to_owned(),
        source_properties: properties::build(detection, spec, settings, naming, investigation, &id),
        name,
        event_time: Some(event.time),
        create_time: Some(event.time),
        severity,
        mute: Mute::Undefined,
        finding_class: spec.finding_class,
        indicator: indicator(detection),
        mitre_attack: spec.attack.map(|attack| mitre(&attack)),
        processes: parts::processes(detection, settings),
        parent_display_name: "Hullwatch".to_owned(),
        description: parts::bounded(&detection.description),
        next_steps: next_steps(spec),
        module_name: spec.module_name.to_owned(),
        containers: container.map(parts::container).into_iter().collect(),
        kubernetes: container.and_then(parts::kubernetes),
        files: parts::files(detection),
        ..Finding::default()
    };
    FindingResult { finding, resource }
}

/// The last part of the name that [`build`] would give the finding: the same for the same fact.
pub fn id(detection: &Detection, naming: &Naming) -> String {
    finding_id(detection, &naming.resource(&detection.event).name)
}

/// 32 hex digits from what makes the fact the same fact. Each part is preceded by its length, so that no two lists of parts
/// read alike.
fn finding_id(detection: &Detection, resource: &str) -> String {
    let container = detection
        .event
        .container
        .as_deref()
        .map_or("", |container| &container.id);
    let mut hasher = Sha256::new();
    for part in [detection.detector, resource, container]
        .into_iter()
        .chain(detection.identity.iter().map(String::as_str))
    {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(&hasher.finalize()[..16])
}

fn next_steps(spec: &Spec) -> String {
    let mut text = String::new();
    for (index, step) in spec.next_steps.iter().enumerate() {
        let _ = writeln!(text, "{}. {step}", index + 1);
    }
    text.truncate(text.trim_end().len());
    text
}

fn mitre(attack: &attack::Attack) -> MitreAttack {
    let names = |techniques: &[attack::Technique]| {
        techniques
            .iter()
            .map(|technique| technique.name.to_owned())
            .collect()
    };
    MitreAttack {
        primary_tactic: attack.tactic.to_owned(),
        primary_techniques: names(attack.techniques),
        additional_tactics: attack
            .additional_tactics
            .iter()
            .map(|&tactic| tactic.to_owned())
            .collect(),
        additional_techniques: names(attack.additional_techniques),
        version: attack::VERSION.to_owned(),
    }
}

/// A file that a list knows, as a signature: SCC has no field for a hash, so the family goes where a memory signature's would.
fn indicator(detection: &Detection) -> Indicator {
    let signatures = properties::judged_files(detection)
        .flat_map(|file| file.matches.iter())
        .map(|matched| {
            let family = matched.family.as_deref().unwrap_or(&matched.list);
            serde_json::json!({
                "memoryHashSignature": { "binaryFamily": parts::bounded(family) },
                "signatureType": "SIGNATURE_TYPE_FILE",
            })
        })
        .take(parts::MATCHES_MAX)
        .collect();
    Indicator {
        signatures,
        ..Indicator::default()
    }
}
