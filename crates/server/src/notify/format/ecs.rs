//! Elastic Common Schema 8.11, as an alert (<https://www.elastic.co/guide/en/ecs/8.11/>).

use model::finding::{File, Finding, FindingClass, Process, State};
use serde_json::{Value, json};

use super::{Notification, bare_digest, property, score, sentence, without_empty};
use crate::web::attack;

pub(super) fn write(notification: &Notification<'_>) -> Value {
    let finding = &notification.result.finding;
    let is_threat = finding.finding_class == FindingClass::Threat;
    let process = finding.processes.first();
    let labels = finding.security_marks.iter().flat_map(|marks| &marks.marks);
    without_empty(json!({
        "@timestamp": finding.event_time.unwrap_or(notification.time).to_string(),
        "ecs": { "version": "8.11.0" },
        "message": sentence(finding),
        "event": {
            "id": notification.id,
            "kind": if is_threat { "alert" } else { "state" },
            "category": if is_threat { vec!["intrusion_detection", "process"] } else { vec!["host"] },
            // The only type that the schema expects of all these categories.
            "type": ["info"],
            "action": match finding.state { State::Inactive => "finding-closed", _ => "finding-active" },
            "created": notification.time.to_string(),
            "severity": score(finding.severity),
            "module": "hullwatch",
            "dataset": "hullwatch.finding",
            "provider": finding.parent_display_name,
            "reason": finding.category,
        },
        "rule": { "id": property(finding, "Detector"), "uuid": finding.module_name, "name": finding.category },
        "threat": threat(finding),
        "process": process.map(|process| self::process(process, finding.processes.get(1))),
        "file": super::subject(finding).map(file),
        "user": { "id": process.map(|process| process.user_id.to_string()) },
        "container": container(finding),
        "host": { "name": property(finding, "VM_Instance_Name"), "os": { "type": "linux" } },
        "orchestrator": orchestrator(finding),
        "labels": labels.map(|(key, value)| (key.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
        "hullwatch": {
            "finding": finding.name,
            "resource": finding.resource_name,
            "severity": finding.severity,
            "state": finding.state,
        },
    }))
}

fn hash(sha256: &str) -> Value {
    json!({ "sha256": sha256 })
}

fn process(process: &Process, parent: Option<&Process>) -> Value {
    let one = |process: &Process| {
        let binary = process.binary.as_ref();
        json!({
            "pid": process.pid,
            "name": process.name,
            "executable": binary.map(|file| &file.path),
            "hash": binary.map(|file| hash(&file.sha256)),
            "args": process.args,
            "args_count": process.args.len(),
            "command_line": process.args.join(" "),
        })
    };
    let mut out = one(process);
    if let (Value::Object(map), Some(parent)) = (&mut out, parent) {
        map.insert("parent".to_owned(), one(parent));
    }
    out
}

fn file(file: &File) -> Value {
    json!({
        "path": file.path,
        "name": file.path.rsplit('/').next(),
        "size": (file.size > 0).then_some(file.size),
        "hash": hash(&file.sha256),
    })
}

fn threat(finding: &Finding) -> Value {
    let Some(mitre) = &finding.mitre_attack else {
        return Value::Null;
    };
    let tactic = attack::TACTICS
        .iter()
        .find(|(name, _)| *name == mitre.primary_tactic);
    let techniques: Vec<attack::Technique> = mitre
        .primary_techniques
        .iter()
        .filter_map(|name| attack::technique(name))
        .collect();
    json!({
        "framework": "MITRE ATT&CK",
        "tactic": tactic.map(|(name, id)| json!({ "id": [id], "name": [attack::title(name)] })),
        "technique": {
            "id": techniques.iter().map(|technique| technique.id).collect::<Vec<_>>(),
            "name": techniques.iter().map(|technique| technique.title()).collect::<Vec<_>>(),
            "reference": techniques.iter().map(|technique| technique.uri()).collect::<Vec<_>>(),
        },
    })
}

fn container(finding: &Finding) -> Value {
    let Some(container) = finding.containers.first() else {
        return Value::Null;
    };
    let digest = bare_digest(&container.image_id);
    let labels = container
        .labels
        .iter()
        .map(|label| (label.name.clone(), json!(label.value)));
    json!({
        "id": property(finding, "Container_Id"),
        "name": container.name,
        "runtime": property(finding, "Container_Engine"),
        "image": {
            "name": container.uri,
            "hash": { "all": [digest] },
        },
        "labels": labels.collect::<serde_json::Map<_, _>>(),
    })
}

fn orchestrator(finding: &Finding) -> Value {
    let pod = property(finding, "Pod_Name");
    if pod.is_empty() {
        return Value::Null;
    }
    json!({
        "type": "kubernetes",
        "namespace": property(finding, "Pod_Namespace"),
        "resource": { "type": "pod", "name": pod, "id": property(finding, "Pod_Uid") },
    })
}
