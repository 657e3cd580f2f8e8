//! SCC's messages for processes, files, containers and pods, from the model's.

use model::{
    Text,
    detection::Detection,
    enriched::{
        self, Ancestor, Container as EnrichedContainer, Content, EnrichedPayload, Pod,
        Process as EnrichedProcess,
    },
    finding::{Container, EnvironmentVariable, File, Label, Process},
    limits,
};
use serde_json::{Value, json};

use crate::{redact, settings::Settings};

/// Indicator matches reported with one finding: more lists than that add nothing.
pub(super) const MATCHES_MAX: usize = 16;

/// Text of a finding: valid Unicode, at most [`limits::FINDING_TEXT_BYTES_MAX`] bytes.
pub(super) fn bounded(text: &str) -> String {
    cut(text, limits::FINDING_TEXT_BYTES_MAX).to_owned()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

pub(super) fn text(text: &Text) -> String {
    let bytes = text.as_bytes();
    let head = bytes.get(..limits::FINDING_TEXT_BYTES_MAX).unwrap_or(bytes);
    bounded(&Text::from(head).to_json_string())
}

/// The process of the event first, then its ancestors, the nearest first.
pub(super) fn processes(detection: &Detection, settings: &Settings) -> Vec<Process> {
    let Some(process) = detection.event.process.as_deref() else {
        return Vec::new();
    };
    let mut processes = vec![main_process(process, detection, settings)];
    let ancestors = &process.ancestors;
    for (index, ancestor) in ancestors.iter().take(limits::ANCESTORS_MAX).enumerate() {
        processes.push(ancestor_process(
            ancestor,
            ancestors.get(index + 1).map(AsRef::as_ref),
            settings,
        ));
    }
    processes
}

fn main_process(process: &EnrichedProcess, detection: &Detection, settings: &Settings) -> Process {
    let (args, args_cut) = arguments(&process.args, limits::FINDING_ARGS_BYTES_MAX, settings);
    let libraries = match &detection.event.payload {
        EnrichedPayload::LibraryLoad { library } => vec![file(library, true)],
        _ => Vec::new(),
    };
    Process {
        name: text(&process.name),
        binary: process.binary.as_deref().map(|binary| file(binary, true)),
        libraries,
        script: process.script.as_deref().map(|script| file(script, true)),
        args,
        arguments_truncated: process.args_truncated || args_cut,
        env_variables: process
            .env
            .iter()
            .take(limits::ENV_COUNT_MAX)
            .map(|variable| EnvironmentVariable {
                name: text(&variable.name),
                val: match &variable.value {
                    Some(value) if settings.report_env_values => text(value),
                    _ => redact::REDACTED.to_owned(),
                },
            })
            .collect(),
        env_variables_truncated: process.env_truncated || process.env.len() > limits::ENV_COUNT_MAX,
        pid: pid(process.pid_in_namespace, process.key.pid),
        parent_pid: process
            .ancestors
            .first()
            .map_or(0, |parent| pid(parent.pid_in_namespace, parent.key.pid)),
        user_id: i64::from(process.credentials.uid),
    }
}

fn ancestor_process(
    ancestor: &Ancestor,
    parent: Option<&Ancestor>,
    settings: &Settings,
) -> Process {
    let (args, args_cut) = arguments(
        &ancestor.args,
        limits::FINDING_ANCESTOR_ARGS_BYTES_MAX,
        settings,
    );
    Process {
        name: text(&ancestor.name),
        binary: ancestor.path.as_ref().map(|path| File {
            path: text(path),
            ..File::default()
        }),
        args,
        arguments_truncated: ancestor.args_truncated || args_cut,
        pid: pid(ancestor.pid_in_namespace, ancestor.key.pid),
        parent_pid: parent.map_or(0, |parent| pid(parent.pid_in_namespace, parent.key.pid)),
        user_id: i64::from(ancestor.uid),
        ..Process::default()
    }
}

/// The pid that people inside the container see; the host's when that is not known.
pub(super) fn pid(in_namespace: u32, on_host: u32) -> i64 {
    i64::from(if in_namespace == 0 {
        on_host
    } else {
        in_namespace
    })
}

/// Arguments without secrets, at most `bytes_max` in all. True when some were cut.
fn arguments(args: &[Text], bytes_max: usize, settings: &Settings) -> (Vec<String>, bool) {
    let mut left = bytes_max;
    let mut was_cut = false;
    let mut kept = Vec::new();
    for argument in args {
        if left == 0 {
            was_cut = true;
            break;
        }
        // Cut before anything is done with it: the work is bounded as well as the result.
        let bytes = argument.as_bytes();
        let head = Text::from(bytes.get(..left).unwrap_or(bytes)).to_json_string();
        let part = cut(&head, left);
        was_cut |= part.len() < head.len() || bytes.len() > left;
        // An empty argument costs one as well, or a million of them would cost nothing.
        left = left.saturating_sub(part.len() + 1);
        kept.push(part.to_owned());
    }
    if !settings.report_secrets_in_args {
        kept = redact::arguments(&kept);
    }
    (kept, was_cut)
}

/// A file; `loaded` when the process runs or maps it.
fn file(file: &enriched::File, loaded: bool) -> File {
    let (sha256, size) = match file.content {
        Content::Known { sha256, size } => (sha256.to_string(), size),
        Content::Missing { .. } => (String::new(), file.key.map_or(0, |key| key.size)),
    };
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    File {
        path: text(&file.path),
        size,
        hashed_size: if sha256.is_empty() { 0 } else { size },
        sha256,
        contents: file.contents.as_ref().map(text).unwrap_or_default(),
        file_load_state: if loaded {
            "LOADED_BY_PROCESS".to_owned()
        } else {
            String::new()
        },
        ..File::default()
    }
}

/// The files the finding is about, with what was done to them.
pub(super) fn files(detection: &Detection) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for judged in super::properties::judged_files(detection) {
        let mut entry = file(judged, true);
        entry.operations = vec![json!({ "type": "EXECUTE" })];
        if !files.contains(&entry) {
            files.push(entry);
        }
    }
    files
}

pub(super) fn container(container: &EnrichedContainer) -> Container {
    Container {
        name: bounded(&container.name),
        uri: bounded(&container.image),
        image_id: container
            .image_digest
            .as_deref()
            .map(bounded)
            .unwrap_or_default(),
        labels: container
            .labels
            .iter()
            .take(limits::LABELS_MAX)
            .map(|(name, value)| Label {
                name: bounded(name),
                value: bounded(value),
            })
            .collect(),
        create_time: container.created,
    }
}

/// `Finding.kubernetes`, when the container is part of a pod.
pub(super) fn kubernetes(container: &EnrichedContainer) -> Option<Value> {
    let pod: &Pod = container.pod.as_ref()?;
    let labels: Vec<Value> = pod
        .labels
        .iter()
        .take(limits::LABELS_MAX)
        .map(|(name, value)| json!({ "name": bounded(name), "value": bounded(value) }))
        .collect();
    Some(json!({ "pods": [{
        "ns": bounded(&pod.namespace),
        "name": bounded(&pod.name),
        "labels": labels,
        "containers": [self::container(container)],
    }] }))
}
