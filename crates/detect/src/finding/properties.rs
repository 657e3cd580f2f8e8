//! `Finding.sourceProperties`: SCC's keys, what the verdict rests on, and what an investigator is told to look at.

use std::collections::BTreeMap;

use model::{
    detection::Detection,
    enriched::{Container, Content, EnrichedPayload, File, Settings as ContainerSettings},
    limits,
    provenance::Provenance,
};
use serde_json::{Map, Value, json};

use super::{
    Investigation, Naming,
    parts::{MATCHES_MAX, bounded, pid, text},
};
use crate::{redact, settings::Settings, spec::Spec};

pub(super) fn build(
    detection: &Detection,
    spec: &Spec,
    settings: &Settings,
    naming: &Naming,
    investigation: &Investigation,
    id: &str,
) -> BTreeMap<String, Value> {
    let event = &detection.event;
    let mut properties = Properties::default();
    properties.set("finding_id", id);
    properties.set("Detector", spec.id);
    properties.set("VM_Instance_Name", bounded(&naming.host));
    if let Some(container) = &event.container {
        container_keys(&mut properties, container);
    }
    process_keys(&mut properties, detection);

    let files: Vec<&File> = judged_files(detection).collect();
    if !files.is_empty() {
        properties.set(
            "Provenance",
            files
                .iter()
                .map(|file| provenance(file))
                .collect::<Vec<_>>(),
        );
    }
    let matches: Vec<Value> = files
        .iter()
        .flat_map(|file| indicator_matches(file))
        .take(MATCHES_MAX)
        .collect();
    if !matches.is_empty() {
        properties.set("Indicator_Matches", matches);
    }
    properties.set("contextUris", context_uris(spec, &files));
    if let Some(container) = &event.container {
        properties.set(
            "Investigation",
            snapshot(container, settings, investigation, id),
        );
    }
    for (key, value) in &detection.properties {
        properties.set(key, value.clone());
    }
    properties.0
}

/// The files a detection is about: those it names, or, for an exec, the program.
pub(super) fn judged_files(detection: &Detection) -> impl Iterator<Item = &File> {
    let program = match detection.event.payload {
        EnrichedPayload::Exec if detection.files.is_empty() => detection
            .event
            .process
            .as_deref()
            .and_then(|process| process.binary.as_deref()),
        _ => None,
    };
    program
        .into_iter()
        .chain(detection.files.iter().map(|file| &**file))
        .take(limits::LIBRARIES_MAX)
}

#[derive(Default)]
struct Properties(BTreeMap<String, Value>);

impl Properties {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }
}

fn container_keys(properties: &mut Properties, container: &Container) {
    properties.set("Container_Id", bounded(&container.id));
    properties.set("Container_Name", bounded(&container.name));
    properties.set("Container_Image_Uri", bounded(&container.image));
    properties.set(
        "Container_Engine",
        serde_json::to_value(container.engine).unwrap_or_default(),
    );
    if let Some(digest) = &container.image_digest {
        properties.set("Container_Image_Id", bounded(digest));
    }
    if let Some(created) = container.created {
        properties.set("Container_Creation_Timestamp", seconds_nanos(created));
    }
    if let Some(pod) = &container.pod {
        properties.set("Pod_Namespace", bounded(&pod.namespace));
        properties.set("Pod_Name", bounded(&pod.name));
        properties.set("Pod_Uid", bounded(&pod.uid));
        if !pod.container.is_empty() {
            properties.set("Container_Name", bounded(&pod.container));
        }
        let labels: Map<String, Value> = pod
            .labels
            .iter()
            .take(limits::LABELS_MAX)
            .map(|(name, value)| (bounded(name), bounded(value).into()))
            .collect();
        if !labels.is_empty() {
            properties.set("Kubernetes_Labels", labels);
        }
    }
}

fn process_keys(properties: &mut Properties, detection: &Detection) {
    let Some(process) = detection.event.process.as_deref() else {
        return;
    };
    properties.set("Pid", pid(process.pid_in_namespace, process.key.pid));
    properties.set("Host_Pid", process.key.pid);
    if let Some(parent) = process.ancestors.first() {
        let parent_pid = pid(parent.pid_in_namespace, parent.key.pid);
        properties.set("Parent_Pid", parent_pid);
        properties.set("Host_Parent_Pid", parent.key.pid);
    }
    // Of a process without a program, whose start was lost, no more is known.
    let Some(binary) = &process.binary else {
        return;
    };
    properties.set("Process_Binary_Fullpath", text(&binary.path));
    if let Some(time) = process.exec_time {
        properties.set("Process_Creation_Timestamp", seconds_nanos(time));
    }
    properties.set("Process_Working_Directory", text(&process.cwd));
    properties.set("Process_Effective_User_Id", process.credentials.euid);
    properties.set(
        "Process_Effective_Capabilities",
        format!("{:#018x}", process.credentials.cap_effective),
    );
}

fn seconds_nanos(time: model::Timestamp) -> Value {
    json!({ "seconds": time.0 / 1_000_000_000, "nanos": time.0 % 1_000_000_000 })
}

/// The verdict on one file and what it rests on.
fn provenance(file: &File) -> Value {
    let (verdict, reason) = match file.provenance {
        Provenance::BuiltIn => ("BUILT_IN", None),
        Provenance::Modified => ("MODIFIED", None),
        Provenance::Added => ("ADDED", None),
        Provenance::Unknown(reason) => ("UNKNOWN", Some(reason.text())),
    };
    let mut out = Map::new();
    let mut set = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    set("path", text(&file.path).into());
    if let Some(used) = &file.path_used {
        set("pathUsed", text(used).into());
    }
    set("verdict", verdict.into());
    if let Some(reason) = reason {
        set("unknownReason", reason.into());
    }
    match file.content {
        Content::Known { sha256, .. } => set("executedSha256", sha256.to_string().into()),
        Content::Missing { reason } => set("sha256MissingReason", reason.text().into()),
    }
    let evidence = &file.evidence;
    if let Some(sha256) = evidence.image_sha256 {
        set("imageSha256", sha256.to_string().into());
    }
    for (key, fact) in [
        ("imageLayer", &evidence.image_layer),
        ("sameContentAs", &evidence.same_content_as),
        ("mount", &evidence.mount),
    ] {
        if let Some(fact) = fact {
            set(key, text(fact).into());
        }
    }
    if evidence.unnamed {
        set("unnamed", true.into());
    }
    if file.is_memfd {
        set("memfd", true.into());
    }
    out.into()
}

fn indicator_matches(file: &File) -> impl Iterator<Item = Value> {
    file.matches.iter().map(|matched| {
        let mut entry = json!({
            "path": text(&file.path),
            "list": bounded(&matched.list),
            "entry": bounded(&matched.entry),
        });
        if let Some(date) = matched.date {
            entry["date"] = date.to_string().into();
        }
        if let Some(family) = &matched.family {
            entry["family"] = bounded(family).into();
        }
        entry
    })
}

fn context_uris(spec: &Spec, files: &[&File]) -> Value {
    let mut uris = Map::new();
    let mut queries: Vec<Value> = Vec::new();
    for sha256 in files.iter().filter_map(|file| file.sha256()) {
        let query = json!({
            "displayName": "VirusTotal indicator",
            "url": format!("https://www.virustotal.com/gui/file/{sha256}"),
        });
        if !queries.contains(&query) {
            queries.push(query);
        }
    }
    if !queries.is_empty() {
        uris.insert("virustotalIndicatorQueryUri".to_owned(), queries.into());
    }
    if let Some(technique) = spec.attack.and_then(|attack| attack.techniques.first()) {
        uris.insert(
            "mitreUri".to_owned(),
            json!({ "displayName": "MITRE ATT&CK", "url": technique.uri() }),
        );
    }
    uris.into()
}

fn snapshot(
    container: &Container,
    settings: &Settings,
    investigation: &Investigation,
    id: &str,
) -> Value {
    let log: Vec<String> = investigation
        .log_tail
        .iter()
        .rev()
        .take(limits::LOG_LINES_MAX)
        .rev()
        .map(|line| {
            let line = text(line);
            if settings.report_secrets_in_args {
                line
            } else {
                redact::text(&line)
            }
        })
        .collect();
    let recent: Vec<Value> = investigation
        .recent_findings
        .iter()
        // A repeat finds the finding itself among the recent ones.
        .filter(|finding| finding.name.rsplit('/').next() != Some(id))
        .map(|finding| {
            json!({
                "name": bounded(&finding.name),
                "category": bounded(&finding.category),
                "severity": finding.severity,
                "eventTime": finding.event_time,
            })
        })
        .collect();
    json!({
        "containerSettings": container_settings(&container.settings, settings),
        "risks": risks(&container.settings),
        "logTail": log,
        "recentFindings": recent,
    })
}

fn container_settings(container: &ContainerSettings, settings: &Settings) -> Value {
    let mut command: Vec<String> = container
        .command
        .iter()
        .take(limits::ARGV_COUNT_MAX)
        .map(|argument| bounded(argument))
        .collect();
    if !settings.report_secrets_in_args {
        command = redact::arguments(&command);
    }
    let env: Map<String, Value> = container
        .env
        .iter()
        .take(limits::ENV_COUNT_MAX)
        .map(|(name, value)| {
            let value = match value {
                Some(value) if settings.report_env_values => bounded(value),
                _ => redact::REDACTED.to_owned(),
            };
            (bounded(name), value.into())
        })
        .collect();
    let mounts: Vec<Value> = container
        .mounts
        .iter()
        .take(limits::MOUNTS_MAX)
        .map(|mount| {
            json!({
                "destination": bounded(&mount.destination),
                "source": bounded(&mount.source),
                "kind": bounded(&mount.kind),
                "writable": mount.writable,
            })
        })
        .collect();
    json!({
        "command": command,
        "env": env,
        "user": bounded(&container.user),
        "privileged": container.privileged,
        "capabilities": container.capabilities,
        "seccomp": container.seccomp,
        "securityLabel": container.security_label.as_deref().map(bounded),
        "noNewPrivileges": container.no_new_privileges,
        "readOnlyRoot": container.read_only_root,
        "hostNamespaces": container.host_namespaces,
        "mounts": mounts,
    })
}

/// What of the settings makes a break-in worse, one sentence each.
fn risks(container: &ContainerSettings) -> Vec<String> {
    let mut risks = Vec::new();
    if container.privileged {
        risks.push("It is privileged: root in it is root on the host.".to_owned());
    }
    let user = container.user.split(':').next().unwrap_or_default();
    if user.is_empty() || user == "0" || user == "root" {
        risks.push("Its first process runs as root.".to_owned());
    }
    if !container.seccomp {
        risks.push("It has no seccomp filter.".to_owned());
    }
    // Sharing the user and control group namespaces is how engines start containers unless told otherwise.
    let shared = container.host_namespaces.iter();
    for namespace in shared.filter(|namespace| !["user", "cgroup"].contains(&namespace.as_str())) {
        risks.push(format!(
            "It shares the host's {} namespace.",
            bounded(namespace)
        ));
    }
    let dangerous: Vec<&str> = container
        .capabilities
        .iter()
        .map(String::as_str)
        .filter(|capability| DANGEROUS_CAPABILITIES.contains(capability))
        .collect();
    if !dangerous.is_empty() && !container.privileged {
        risks.push(format!(
            "It has capabilities that lead to the host: {}.",
            dangerous.join(", ")
        ));
    }
    for mount in container.mounts.iter().take(limits::MOUNTS_MAX) {
        if mount.writable && is_sensitive(&mount.source) {
            risks.push(format!(
                "It can write the host's {} at {}.",
                bounded(&mount.source),
                bounded(&mount.destination)
            ));
        }
    }
    risks
}

/// capabilities(7): each of these lets its holder act on the kernel, on other processes or on any file.
const DANGEROUS_CAPABILITIES: &[&str] = &[
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_NET_ADMIN",
    "CAP_PERFMON",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
];

fn is_sensitive(source: &str) -> bool {
    let is_below = |directory: &str| {
        source == directory
            || source
                .strip_prefix(directory)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    source == "/"
        || source.ends_with(".sock")
        || [
            "/boot", "/dev", "/etc", "/proc", "/root", "/sys", "/usr", "/var/lib", "/var/run",
            "/run",
        ]
        .into_iter()
        .any(is_below)
}
