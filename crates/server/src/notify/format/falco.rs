//! Falco's JSON output (`json_output: true`), which falcosidekick takes at `/` and passes on to its many outputs.

use model::finding::Severity;
use serde_json::{Value, json};

use super::{Notification, property, sentence, subject, without_empty};

pub(super) fn write(notification: &Notification<'_>) -> Value {
    let finding = &notification.result.finding;
    let process = finding.processes.first();
    let parent = finding.processes.get(1);
    let container = finding.containers.first();
    let (repository, tag) = container
        .map(|container| split_image(&container.uri))
        .unwrap_or_default();
    let path = |process: Option<&model::finding::Process>| {
        process
            .and_then(|process| process.binary.as_ref())
            .map(|file| file.path.clone())
    };
    let attack = finding.mitre_attack.as_ref();
    let tags = attack.into_iter().flat_map(|attack| {
        let tactic = format!("mitre_{}", attack.primary_tactic.to_lowercase());
        std::iter::once(tactic).chain(
            attack
                .primary_techniques
                .iter()
                .map(|name| name.to_lowercase()),
        )
    });
    json!({
        "uuid": notification.id,
        "time": finding.event_time.unwrap_or(notification.time).to_string(),
        "rule": finding.category,
        "priority": priority(finding.severity),
        "source": "hullwatch",
        "hostname": property(finding, "VM_Instance_Name"),
        "tags": std::iter::once("container".to_owned()).chain(tags).collect::<Vec<_>>(),
        "output": format!("{}: {}", priority(finding.severity), sentence(finding)),
        "output_fields": without_empty(json!({
            "evt.time": finding.event_time.unwrap_or(notification.time).0,
            "container.id": property(finding, "Container_Id"),
            "container.name": container.map(|container| &container.name),
            "container.image.repository": repository,
            "container.image.tag": tag,
            "container.image.digest": container.map(|container| &container.image_id),
            "k8s.ns.name": property(finding, "Pod_Namespace"),
            "k8s.pod.name": property(finding, "Pod_Name"),
            "proc.name": process.map(|process| &process.name),
            "proc.exepath": path(process),
            "proc.cmdline": process.map(|process| process.args.join(" ")),
            "proc.pid": process.map(|process| process.pid),
            "proc.ppid": process.map(|process| process.parent_pid),
            "proc.pname": parent.map(|process| &process.name),
            "proc.pexepath": path(parent),
            "user.uid": process.map(|process| process.user_id),
            "fd.name": subject(finding).map(|file| &file.path),
            "hullwatch.finding": finding.name,
            "hullwatch.state": finding.state,
            "hullwatch.sha256": subject(finding).map(|file| &file.sha256),
            "hullwatch.resource": finding.resource_name,
        })),
    })
}

/// Falco's priorities, by the meaning SCC gives its severities.
fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "Critical",
        Severity::High => "Error",
        Severity::Medium => "Warning",
        Severity::Low => "Notice",
        Severity::SeverityUnspecified => "Informational",
    }
}

/// `repository:tag`, where a port of the registry also has a colon.
fn split_image(uri: &str) -> (&str, &str) {
    let name = uri.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_s_port_is_not_a_tag() {
        assert_eq!(split_image("r.test:5000/a/b:v1"), ("r.test:5000/a/b", "v1"));
        assert_eq!(split_image("r.test:5000/a/b"), ("r.test:5000/a/b", ""));
        assert_eq!(split_image("a@sha256:00"), ("a", ""));
    }
}
