//! OCSF Detection Finding, class 2004 of version 1.4.0 (<https://schema.ocsf.io/1.4.0/classes/detection_finding>).

use model::finding::{File, Finding, FindingClass, Process, Severity, State};
use serde_json::{Value, json};

use super::{Notification, bare_digest, milliseconds, property, sentence, without_empty};
use crate::web::attack;

const VERSION: &str = "1.4.0";
const CLASS: u64 = 2004;

/// Processes above the one found that are written. OCSF nests them.
const ANCESTORS_MAX: usize = 16;

pub(super) fn write(notification: &Notification<'_>) -> Value {
    let finding = &notification.result.finding;
    let (activity, activity_name) = activity(notification);
    let (severity, severity_name) = severity(finding.severity);
    let (status, status_name) = match finding.state {
        State::Inactive => (4, "Resolved"),
        _ => (1, "New"),
    };
    let detector = property(finding, "Detector");
    without_empty(json!({
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": format!("Detection Finding: {activity_name}"),
        "time": milliseconds(Some(notification.time)),
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "is_alert": finding.finding_class == FindingClass::Threat,
        "message": sentence(finding),
        "metadata": {
            "version": VERSION,
            "uid": notification.id,
            "product": { "name": "Hullwatch", "vendor_name": "Hullwatch", "version": env!("CARGO_PKG_VERSION") },
            "profiles": ["host"],
        },
        "finding_info": {
            "uid": finding.name,
            "title": finding.category,
            "desc": finding.description,
            "types": [enum_text(finding.finding_class)],
            "created_time": milliseconds(finding.create_time),
            "modified_time": milliseconds(Some(notification.time)),
            "first_seen_time": milliseconds(crate::web::shown::first_seen(finding)),
            "last_seen_time": milliseconds(finding.event_time),
            "analytic": {
                "type_id": 1, "type": "Rule", "uid": finding.module_name,
                "name": if detector.is_empty() { &finding.category } else { detector },
            },
            "attacks": attacks(finding),
        },
        "evidences": evidences(finding),
        "resources": [{
            "uid": finding.resource_name,
            "name": notification.result.resource.display_name,
            "type": notification.result.resource.kind,
            "region": notification.result.resource.location,
        }],
        "device": device(finding),
        "observables": observables(finding),
        "remediation": remediation(finding),
    }))
}

/// Created when nothing but its first event is known, updated after, closed when nothing is left to do.
fn activity(notification: &Notification<'_>) -> (u64, &'static str) {
    let finding = &notification.result.finding;
    match finding.state {
        State::Inactive => (3, "Close"),
        _ if finding
            .create_time
            .is_some_and(|created| created < notification.time) =>
        {
            (2, "Update")
        }
        _ => (1, "Create"),
    }
}

fn severity(severity: Severity) -> (u64, &'static str) {
    match severity {
        Severity::Critical => (5, "Critical"),
        Severity::High => (4, "High"),
        Severity::Medium => (3, "Medium"),
        Severity::Low => (2, "Low"),
        Severity::SeverityUnspecified => (0, "Unknown"),
    }
}

fn enum_text(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn attacks(finding: &Finding) -> Vec<Value> {
    let Some(mitre) = &finding.mitre_attack else {
        return Vec::new();
    };
    let tactic = attack::TACTICS
        .iter()
        .find(|(name, _)| *name == mitre.primary_tactic);
    let techniques = mitre
        .primary_techniques
        .iter()
        .filter_map(|name| attack::technique(name));
    techniques
        .map(|technique| {
            json!({
                "version": mitre.version,
                "tactic": tactic.map(|(name, id)| json!({ "uid": id, "name": attack::title(name) })),
                "technique": { "uid": technique.id, "name": technique.title() },
            })
        })
        .collect()
}

fn file(file: &File) -> Value {
    let name = file
        .path
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(&file.path);
    let hashes = if file.sha256.is_empty() {
        Vec::new()
    } else {
        vec![json!({ "algorithm_id": 3, "algorithm": "SHA-256", "value": file.sha256 })]
    };
    json!({
        "name": name,
        "path": file.path,
        "type_id": 1,
        "type": "Regular File",
        "size": (file.size > 0).then_some(file.size),
        "hashes": hashes,
    })
}

/// A process with those above it.
fn process(process: &Process, above: &[Process], left: usize) -> Value {
    let parent = above
        .split_first()
        .filter(|_| left > 0)
        .map(|(next, rest)| self::process(next, rest, left - 1));
    json!({
        "pid": process.pid,
        "name": process.name,
        "cmd_line": process.args.join(" "),
        "file": process.binary.as_ref().map(file),
        "user": { "uid": process.user_id.to_string() },
        "parent_process": parent,
    })
}

fn evidences(finding: &Finding) -> Vec<Value> {
    let subject = super::subject(finding);
    let evidence = json!({
        "process": finding.processes.split_first().map(|(first, above)| process(first, above, ANCESTORS_MAX)),
        "file": subject.map(file),
        "container": container(finding),
    });
    if subject.is_none() && finding.processes.is_empty() {
        return Vec::new();
    }
    vec![evidence]
}

/// `evidences[].container`: the container profile is not for findings.
fn container(finding: &Finding) -> Value {
    let Some(container) = finding.containers.first() else {
        return Value::Null;
    };
    // What an engine or an orchestrator says of a container need not have the form that OCSF asks for; left out then.
    let digest = bare_digest(&container.image_id);
    let pod = property(finding, "Pod_Uid");
    json!({
        "uid": property(finding, "Container_Id"),
        "name": container.name,
        "image": { "uid": if container.image_id.is_empty() { &container.uri } else { &container.image_id }, "name": container.uri },
        "hash": is_hex(digest, 64)
            .then(|| json!({ "algorithm_id": 3, "algorithm": "SHA-256", "value": digest })),
        "runtime": property(finding, "Container_Engine"),
        "orchestrator": if property(finding, "Pod_Name").is_empty() { "" } else { "Kubernetes" },
        "pod_uuid": is_uuid(pod).then_some(pod),
    })
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in hexadecimal digits: OCSF's `uuid_t`.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == 5
        && parts
            .iter()
            .zip([8, 4, 4, 4, 12])
            .all(|(part, digits)| is_hex(part, digits))
}

/// The host profile's `device`: the machine that the container runs on.
fn device(finding: &Finding) -> Value {
    let host = property(finding, "VM_Instance_Name");
    if host.is_empty() {
        return Value::Null;
    }
    json!({ "hostname": host, "type_id": 1, "type": "Server", "os": { "name": "Linux", "type_id": 200, "type": "Linux" } })
}

fn observables(finding: &Finding) -> Vec<Value> {
    let indicator = &finding.indicator;
    let of = |name: &str, kind: u64, word: &str, value: &str| json!({ "name": name, "type_id": kind, "type": word, "value": value });
    let hashes = super::subject(finding)
        .into_iter()
        .map(|file| of("evidences[].file.hashes[].value", 8, "Hash", &file.sha256));
    hashes
        .chain(
            indicator
                .ip_addresses
                .iter()
                .map(|ip| of("indicator.ip_addresses", 2, "IP Address", ip)),
        )
        .chain(
            indicator
                .domains
                .iter()
                .map(|domain| of("indicator.domains", 1, "Hostname", domain)),
        )
        .chain(
            indicator
                .uris
                .iter()
                .map(|uri| of("indicator.uris", 6, "URL String", uri)),
        )
        .filter(|observable| observable["value"] != "")
        .collect()
}

fn remediation(finding: &Finding) -> Value {
    if finding.next_steps.is_empty() {
        return Value::Null;
    }
    json!({ "desc": finding.next_steps })
}
