//! The container's settings as a list, the risky ones marked.

use model::finding::Finding;
use serde_json::Value;

use super::evidence::{investigation, text, texts};

/// One setting.
pub(super) struct Setting {
    pub(super) label: &'static str,
    pub(super) values: Vec<String>,
    pub(super) risky: bool,
}

pub(super) fn of(finding: &Finding) -> Vec<Setting> {
    let Some(settings) = investigation(finding).and_then(|found| found.get("containerSettings"))
    else {
        return Vec::new();
    };
    // What is risky is judged where the finding is made; a setting is marked when a sentence there speaks of it.
    let risks = texts(investigation(finding).and_then(|found| found.get("risks")));
    let speaks = |words: &[&str]| {
        risks
            .iter()
            .any(|risk| words.iter().any(|word| risk.contains(word)))
    };
    let is_on = |key: &str| {
        settings
            .get(key)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    };
    let yes_no = |key: &str| vec![if is_on(key) { "yes" } else { "no" }.to_owned()];
    let mut list = Vec::new();
    let mut add = |label, values: Vec<String>, risky| {
        if values.iter().any(|value| !value.is_empty()) {
            list.push(Setting {
                label,
                values,
                risky,
            });
        }
    };
    let user = text(settings, "user");
    add(
        "User",
        vec![if user.is_empty() {
            "root (not set)".to_owned()
        } else {
            user
        }],
        speaks(&["as root"]),
    );
    add("Privileged", yes_no("privileged"), is_on("privileged"));
    add("Seccomp filter", yes_no("seccomp"), !is_on("seccomp"));
    add("No new privileges", yes_no("noNewPrivileges"), false);
    add("Read-only root", yes_no("readOnlyRoot"), false);
    add(
        "Security label",
        vec![text(settings, "securityLabel")],
        false,
    );
    add(
        "Namespaces of the host",
        texts(settings.get("hostNamespaces")),
        speaks(&["shares the host"]),
    );
    add(
        "Capabilities",
        texts(settings.get("capabilities")),
        speaks(&["has capabilities"]),
    );
    let mounts = settings
        .get("mounts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    add(
        "Mounts",
        mounts.map(mount).collect(),
        speaks(&["can write the host"]),
    );
    add(
        "Command",
        vec![texts(settings.get("command")).join(" ")],
        false,
    );
    let env = settings
        .get("env")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    add(
        "Environment",
        env.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect(),
        false,
    );
    list
}

fn mount(mount: &Value) -> String {
    let access = match mount.get("writable").and_then(Value::as_bool) {
        Some(true) => "writable",
        _ => "read only",
    };
    format!(
        "{} ← {} ({}, {access})",
        text(mount, "destination"),
        text(mount, "source"),
        text(mount, "kind")
    )
}
