//! ArcSight Common Event Format, version 0: header fields between bars, then `key=value`.

use super::{Notification, milliseconds, property, score, sentence, subject};

pub(super) fn write(notification: &Notification<'_>) -> String {
    let finding = &notification.result.finding;
    let process = finding.processes.first();
    let container = finding.containers.first();
    let file = subject(finding);
    let pid = process
        .map(|process| process.pid.to_string())
        .unwrap_or_default();
    let uid = process
        .map(|process| process.user_id.to_string())
        .unwrap_or_default();
    let command = process
        .map(|process| process.args.join(" "))
        .unwrap_or_default();
    let time = milliseconds(finding.event_time.or(Some(notification.time))).to_string();
    let state = format!("{:?}", finding.state);
    let mut extension: Vec<(&str, &str)> = vec![
        ("rt", &time),
        ("externalId", &finding.name),
        ("msg", sentence(finding)),
        ("act", &state),
        ("cat", &finding.module_name),
        ("dvchost", property(finding, "VM_Instance_Name")),
        ("sproc", process.map_or("", |process| &process.name)),
        ("spid", &pid),
        ("suid", &uid),
        ("filePath", file.map_or("", |file| &file.path)),
        ("fileHash", file.map_or("", |file| &file.sha256)),
    ];
    // What the CEF dictionary has no key for goes into the custom strings, each with its label.
    for (key, label, name, value) in [
        (
            "cs1",
            "cs1Label",
            "container",
            container.map_or("", |container| container.name.as_str()),
        ),
        (
            "cs2",
            "cs2Label",
            "image",
            container.map_or("", |container| &container.uri),
        ),
        ("cs3", "cs3Label", "resource", &finding.resource_name),
        ("cs4", "cs4Label", "arguments", &command),
        (
            "cs5",
            "cs5Label",
            "containerId",
            property(finding, "Container_Id"),
        ),
    ] {
        if !value.is_empty() {
            extension.extend([(label, name), (key, value)]);
        }
    }
    let extension: Vec<String> = extension
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", escape_value(value)))
        .collect();
    format!(
        "CEF:0|Hullwatch|Hullwatch|{}|{}|{}|{}|{}",
        env!("CARGO_PKG_VERSION"),
        escape_header(&finding.module_name),
        escape_header(&finding.category),
        score(finding.severity),
        extension.join(" ")
    )
}

fn escape_header(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('|', "\\|")
}

/// Line breaks may be written in values; other control characters have no place there.
fn escape_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '=' => out.push_str("\\="),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_ends_its_field() {
        assert_eq!(escape_header("a|b\\c\nd"), "a\\|b\\\\c d");
        assert_eq!(escape_value("a=b\\c\nd\u{1b}e"), "a\\=b\\\\c\\nd e");
    }
}
