//! Findings as pages show them: words for enums, times for people, the fields that tables need.

use model::{
    Timestamp,
    finding::{Finding, FindingClass, FindingResult, Mute, Severity, State},
};
use serde_json::Value;

/// A severity, as a word and as the class of its color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShownSeverity {
    pub(crate) label: &'static str,
    pub(crate) class: &'static str,
}

pub(crate) fn severity(severity: Severity) -> ShownSeverity {
    let (label, class) = match severity {
        Severity::Critical => ("Critical", "critical"),
        Severity::High => ("High", "high"),
        Severity::Medium => ("Medium", "medium"),
        Severity::Low => ("Low", "low"),
        Severity::SeverityUnspecified => ("Unspecified", "none"),
    };
    ShownSeverity { label, class }
}

pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Active => "Active",
        State::Inactive => "Inactive",
        State::StateUnspecified => "Unspecified",
    }
}

pub(crate) fn mute(mute: Mute) -> &'static str {
    match mute {
        Mute::Muted => "Muted",
        Mute::Unmuted => "Unmuted",
        Mute::Undefined => "Not set",
        Mute::MuteUnspecified => "Unspecified",
    }
}

pub(crate) fn class(class: FindingClass) -> &'static str {
    match class {
        FindingClass::Threat => "Threat",
        FindingClass::Vulnerability => "Vulnerability",
        FindingClass::Misconfiguration => "Misconfiguration",
        FindingClass::Observation => "Observation",
        FindingClass::SccError => "Error of the watch",
        FindingClass::PostureViolation => "Posture violation",
        FindingClass::ToxicCombination => "Toxic combination",
        FindingClass::SensitiveDataRisk => "Sensitive data risk",
        FindingClass::Chokepoint => "Chokepoint",
        FindingClass::FindingClassUnspecified => "Unspecified",
    }
}

/// The word of an enum as the API writes it, for people: `SCC_ERROR` is `Scc error`.
pub(crate) fn enum_word(word: &str) -> String {
    let mut out = word.to_ascii_lowercase().replace('_', " ");
    if let Some(first) = out.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    out
}

/// A time in three forms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct When {
    /// RFC 3339, exact.
    pub(crate) iso: String,
    /// `2026-03-01 12:00:00`; empty when there is no time.
    pub(crate) text: String,
    /// `3 min ago`.
    pub(crate) ago: String,
}

pub(crate) fn when(time: Option<Timestamp>, now: Timestamp) -> When {
    let Some(time) = time else {
        return When::default();
    };
    let iso = time.to_string();
    let text = iso.get(..19).unwrap_or(&iso).replace('T', " ");
    When {
        ago: ago(time, now),
        iso,
        text,
    }
}

pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    match now.0.checked_sub(time.0) {
        None => "in the future".to_owned(),
        Some(ns) => format!("{} ago", duration(ns / 1_000_000_000)),
    }
}

/// A duration in the largest unit that keeps two digits of sense.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..5400 => format!("{} min", seconds / 60),
        5400..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Where a finding's page is.
pub(crate) fn finding_href(name: &str) -> String {
    let mut href = String::from("/finding");
    for segment in name.split('/') {
        href.push('/');
        href.extend(form_urlencoded::byte_serialize(segment.as_bytes()));
    }
    href
}

/// One row of a table of findings.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) href: String,
    pub(crate) category: String,
    /// The program or script, in a word.
    pub(crate) what: String,
    pub(crate) severity: ShownSeverity,
    pub(crate) resource: String,
    pub(crate) resource_name: String,
    pub(crate) container: String,
    pub(crate) image: String,
    pub(crate) event_time: When,
    pub(crate) create_time: When,
    pub(crate) first_seen: When,
    pub(crate) count: u64,
    pub(crate) state: &'static str,
    pub(crate) muted: bool,
    pub(crate) mute: &'static str,
    pub(crate) class: &'static str,
    pub(crate) module: String,
    pub(crate) techniques: String,
    pub(crate) marks: String,
    pub(crate) description: String,
}

pub(crate) fn row(result: &FindingResult, now: Timestamp) -> Row {
    let finding = &result.finding;
    let container = finding.containers.first();
    let marks = finding.security_marks.iter().flat_map(|marks| &marks.marks);
    Row {
        name: finding.name.clone(),
        href: finding_href(&finding.name),
        category: finding.category.clone(),
        what: what(finding),
        severity: severity(finding.severity),
        resource: if result.resource.display_name.is_empty() {
            finding.resource_name.clone()
        } else {
            result.resource.display_name.clone()
        },
        resource_name: finding.resource_name.clone(),
        container: container
            .map(|container| container.name.clone())
            .unwrap_or_default(),
        image: container
            .map(|container| container.uri.clone())
            .unwrap_or_default(),
        event_time: when(finding.event_time, now),
        create_time: when(finding.create_time, now),
        first_seen: when(first_seen(finding), now),
        count: occurrences(finding),
        state: state(finding.state),
        muted: finding.mute == Mute::Muted,
        mute: mute(finding.mute),
        class: class(finding.finding_class),
        module: finding.module_name.clone(),
        techniques: finding
            .mitre_attack
            .as_ref()
            .map(|attack| attack.primary_techniques.join(", "))
            .unwrap_or_default(),
        marks: marks
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(", "),
        description: finding.description.clone(),
    }
}

/// The file that a finding is about, for a table cell.
fn what(finding: &Finding) -> String {
    let Some(process) = finding.processes.first() else {
        return finding
            .files
            .first()
            .map(|file| file.path.clone())
            .unwrap_or_default();
    };
    let file = process
        .script
        .as_ref()
        .or(process.libraries.first())
        .or(process.binary.as_ref());
    file.map(|file| file.path.clone()).unwrap_or_default()
}

/// How often the fact was seen.
pub(crate) fn occurrences(finding: &Finding) -> u64 {
    finding
        .source_properties
        .get(store::OCCURRENCES)
        .and_then(Value::as_u64)
        .unwrap_or(1)
}

pub(crate) fn first_seen(finding: &Finding) -> Option<Timestamp> {
    let text = finding
        .source_properties
        .get(store::FIRST_SEEN)
        .and_then(Value::as_str);
    text.and_then(Timestamp::parse).or(finding.create_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        let now = Timestamp::parse("2026-03-02T12:00:00Z").unwrap();
        let told = |text: &str| when(Timestamp::parse(text), now);
        assert_eq!(told("2026-03-02T11:57:00.5Z").ago, "2 min ago");
        assert_eq!(told("2026-03-01T12:00:00.25Z").text, "2026-03-01 12:00:00");
        assert_eq!(told("2026-03-02T12:00:01Z").ago, "in the future");
    }

    #[test]
    fn a_name_cannot_leave_its_path() {
        assert_eq!(
            finding_href("organizations/1/../x?y#z"),
            "/finding/organizations/1/../x%3Fy%23z"
        );
    }
}
