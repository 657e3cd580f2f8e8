//! What a message says, in six shapes. Pure functions of the finding: no clock, no I/O.

mod cef;
mod ecs;
mod falco;
mod ocsf;

use model::{
    Timestamp,
    finding::{File, Finding, FindingResult, Severity},
};
use serde::Deserialize;
use serde_json::Value;

use crate::service::findings;

/// How a finding is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// SCC's `NotificationMessage`.
    #[default]
    Scc,
    /// Falco's JSON output, as falcosidekick takes it.
    Falco,
    /// OCSF Detection Finding (class 2004), version 1.4.
    Ocsf,
    /// Elastic Common Schema.
    Ecs,
    /// ArcSight Common Event Format.
    Cef,
}

/// A finding on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// Name of the notification config, or of the sink when it has its own filter.
    pub config: &'a str,
    /// The finding as it was when it changed.
    pub result: &'a FindingResult,
    /// When it changed.
    pub time: Timestamp,
    /// Same for every attempt to deliver the same change.
    pub id: &'a str,
}

impl Format {
    /// The message, on one line. SCC's fails for a finding that is none of SCC's.
    pub fn write(self, notification: &Notification<'_>) -> Result<String, serde_json::Error> {
        Ok(match self {
            Self::Scc => findings::notified(notification.config, notification.result)?.to_string(),
            Self::Falco => falco::write(notification).to_string(),
            Self::Ocsf => ocsf::write(notification).to_string(),
            Self::Ecs => ecs::write(notification).to_string(),
            Self::Cef => cef::write(notification),
        })
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Cef => "text/plain; charset=utf-8",
            _ => "application/json",
        }
    }
}

/// The text of a source property.
fn property<'a>(finding: &'a Finding, key: &str) -> &'a str {
    finding
        .source_properties
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The machine it happened on.
pub(super) fn host(finding: &Finding) -> &str {
    property(finding, "VM_Instance_Name")
}

/// The file a finding is about: script, library or program.
fn subject(finding: &Finding) -> Option<&File> {
    let process = finding.processes.first();
    process
        .and_then(|process| {
            process
                .script
                .as_ref()
                .or(process.libraries.first())
                .or(process.binary.as_ref())
        })
        .or(finding.files.first())
}

/// One sentence, also for findings without a description.
fn sentence(finding: &Finding) -> &str {
    if finding.description.is_empty() {
        &finding.category
    } else {
        &finding.description
    }
}

fn milliseconds(time: Option<Timestamp>) -> u64 {
    time.unwrap_or_default().0 / 1_000_000
}

/// 0 to 10, 10 the worst, as CEF and ECS users expect it.
fn score(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 10,
        Severity::High => 8,
        Severity::Medium => 5,
        Severity::Low => 3,
        Severity::SeverityUnspecified => 0,
    }
}

/// `sha256:...` without the part before the colon.
fn bare_digest(digest: &str) -> &str {
    digest.rsplit(':').next().unwrap_or_default()
}

/// Leaves out what is empty: no list of nothing, no empty text.
fn without_empty(value: Value) -> Value {
    let keeps = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, without_empty(value)))
                .filter(|(_, value)| keeps(value))
                .collect(),
        ),
        Value::Array(list) => list
            .into_iter()
            .map(without_empty)
            .filter(|value| keeps(value))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
