//! What a finding's source properties say, read with care: anyone with a token can write findings.

use model::finding::Finding;
use serde_json::Value;

use super::filters::grouped;

/// The verdict on one file.
pub(super) struct JudgedFile {
    pub(super) path: String,
    pub(super) verdict: &'static str,
    pub(super) class: &'static str,
    pub(super) sentence: &'static str,
    pub(super) executed: String,
    /// Why the executed hash is not known.
    pub(super) missing: String,
    pub(super) image: String,
    pub(super) image_missing: &'static str,
    pub(super) differs: bool,
    pub(super) facts: Vec<(&'static str, String)>,
}

/// An indicator that matched.
pub(super) struct Match {
    pub(super) path: String,
    pub(super) list: String,
    pub(super) family: String,
    pub(super) date: String,
}

/// What was noted about the container when it was detected.
pub(super) fn investigation(finding: &Finding) -> Option<&Value> {
    finding.source_properties.get("Investigation")
}

/// The texts of a list.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn entries<'a>(finding: &'a Finding, key: &str) -> impl Iterator<Item = &'a Value> {
    finding
        .source_properties
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

pub(super) fn provenance(finding: &Finding) -> Vec<JudgedFile> {
    entries(finding, "Provenance").map(judged_file).collect()
}

fn judged_file(file: &Value) -> JudgedFile {
    let (verdict, class, sentence) = match file.get("verdict").and_then(Value::as_str) {
        Some("BUILT_IN") => (
            "Built in",
            "high",
            "The image ships exactly these bytes at this path: look at where the image came from.",
        ),
        Some("MODIFIED") => (
            "Modified",
            "critical",
            "The image ships a file at this path, with other bytes: it was changed in the running container.",
        ),
        Some("ADDED") => (
            "Added",
            "critical",
            "The image ships no file at this path: it came into the running container.",
        ),
        _ => (
            "Unknown",
            "medium",
            "Where these bytes came from could not be told.",
        ),
    };
    let executed = text(file, "executedSha256");
    let image = text(file, "imageSha256");
    let mut facts = Vec::new();
    for (label, key) in [
        ("Why unknown", "unknownReason"),
        ("Layer", "imageLayer"),
        ("Same bytes as", "sameContentAs"),
        ("On the mount", "mount"),
        ("Reached as", "pathUsed"),
        ("Written by", "writtenBy"),
    ] {
        let value = text(file, key);
        if !value.is_empty() {
            facts.push((label, value));
        }
    }
    if file.get("memfd") == Some(&Value::Bool(true)) {
        facts.push(("Memory only", "it is a memfd: on no filesystem".to_owned()));
    } else if file.get("unnamed") == Some(&Value::Bool(true)) {
        facts.push((
            "Name",
            "it had no name any more when it ran, or never had one".to_owned(),
        ));
    }
    JudgedFile {
        path: text(file, "path"),
        differs: !image.is_empty() && !executed.is_empty() && image != executed,
        missing: text(file, "sha256MissingReason"),
        image_missing: if verdict == "Added" {
            "no file"
        } else {
            "not known"
        },
        verdict,
        class,
        sentence,
        executed,
        image,
        facts,
    }
}

pub(super) fn matches(finding: &Finding) -> Vec<Match> {
    entries(finding, "Indicator_Matches")
        .map(|matched| Match {
            path: text(matched, "path"),
            list: text(matched, "list"),
            family: text(matched, "family"),
            date: text(matched, "date")
                .get(..10)
                .unwrap_or_default()
                .to_owned(),
        })
        .collect()
}

pub(super) fn pods(finding: &Finding) -> Vec<String> {
    let pods = finding
        .kubernetes
        .as_ref()
        .and_then(|value| value.get("pods"));
    let pods = pods.and_then(Value::as_array).into_iter().flatten();
    pods.map(|pod| format!("{}/{}", text(pod, "ns"), text(pod, "name")))
        .collect()
}

pub(super) fn connection(connection: &Value) -> String {
    let end = |ip: &str, port: &str| {
        let port = connection
            .get(port)
            .map(Value::to_string)
            .unwrap_or_default();
        format!("{}:{}", text(connection, ip), port.trim_matches('"'))
    };
    format!(
        "{} {} → {}",
        text(connection, "protocol"),
        end("sourceIp", "sourcePort"),
        end("destinationIp", "destinationPort")
    )
}

pub(super) fn external_system((name, system): (&String, &Value)) -> (String, String) {
    let parts = ["externalUid", "status", "caseUri"].map(|key| text(system, key));
    let told: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (
        name.rsplit('/').next().unwrap_or_default().to_owned(),
        told.join(" · "),
    )
}

/// Properties that the page shows in a place of their own, or that repeat another field.
const SHOWN_ELSEWHERE: &[&str] = &[
    "Container_Creation_Timestamp",
    "Container_Engine",
    "Container_Id",
    "Container_Image_Id",
    "Container_Image_Uri",
    "Container_Name",
    "Detector",
    "First_Seen",
    "Host_Parent_Pid",
    "Indicator_Matches",
    "Investigation",
    "Kubernetes_Labels",
    "Occurrences",
    "Parent_Pid",
    "Pod_Name",
    "Pod_Namespace",
    "Process_Binary_Fullpath",
    "Process_Creation_Timestamp",
    "Provenance",
    "VM_Instance_Name",
    "contextUris",
    "finding_id",
];

/// The other properties, as label and value.
pub(super) fn facts(finding: &Finding) -> Vec<(String, String)> {
    let properties = finding.source_properties.iter();
    properties
        .filter(|(key, _)| !SHOWN_ELSEWHERE.contains(&key.as_str()))
        .map(|(key, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if number.is_u64() && number.as_u64() >= Some(100_000) => {
                    grouped(&number.to_string())
                }
                other => other.to_string(),
            };
            (key.replace('_', " "), value)
        })
        .collect()
}
