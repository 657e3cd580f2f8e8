//! The shapes, over one finding that has everything and one that has nothing.

use model::finding::{Container, FindingClass, Indicator, MitreAttack, Process, Resource, State};

use serde_json::json;

use super::*;

fn full() -> FindingResult {
    let file = |path: &str, sha256: &str| File {
        path: path.to_owned(),
        sha256: sha256.to_owned(),
        size: 68,
        ..File::default()
    };
    let process = |pid, name: &str, path: &str| Process {
        name: name.to_owned(),
        binary: Some(file(path, &"ab".repeat(32))),
        args: vec![path.to_owned(), "-x|y=z".to_owned()],
        pid,
        user_id: 0,
        ..Process::default()
    };
    let mut finding = Finding {
        name: "organizations/1/sources/1/locations/global/findings/0f".to_owned(),
        resource_name: "//run.googleapis.com/projects/p/locations/l/services/s".to_owned(),
        state: State::Active,
        category: "Execution: Added Malicious Binary Executed".to_owned(),
        event_time: Timestamp::parse("2026-03-01T12:00:01Z"),
        create_time: Timestamp::parse("2026-03-01T12:00:02Z"),
        severity: Severity::Critical,
        finding_class: FindingClass::Threat,
        indicator: Indicator {
            domains: vec!["evil.test".to_owned()],
            ..Indicator::default()
        },
        mitre_attack: Some(MitreAttack {
            primary_tactic: "EXECUTION".to_owned(),
            primary_techniques: vec!["INGRESS_TOOL_TRANSFER".to_owned(), "NATIVE_API".to_owned()],
            version: "17".to_owned(),
            ..MitreAttack::default()
        }),
        processes: vec![process(9, "x", "/tmp/x"), process(1, "init", "/sbin/init")],
        containers: vec![Container {
            name: "shop".to_owned(),
            uri: "registry.test:5000/shop:v1".to_owned(),
            image_id: format!("sha256:{}", "cd".repeat(32)),
            ..Container::default()
        }],
        description: "A program ran.\nIt is bad.".to_owned(),
        next_steps: "1. Look.".to_owned(),
        module_name: "CLOUD_RUN_ADDED_MALICIOUS_BINARY_EXECUTED".to_owned(),
        ..Finding::default()
    };
    for (key, value) in [
        ("Detector", "added_malicious_binary_executed"),
        ("Container_Id", "4f1c"),
        ("Container_Engine", "podman"),
        ("VM_Instance_Name", "edge-03"),
    ] {
        finding
            .source_properties
            .insert(key.to_owned(), value.into());
    }
    FindingResult {
        finding,
        resource: Resource {
            display_name: "s".to_owned(),
            kind: "run.googleapis.com/Service".to_owned(),
            ..Resource::default()
        },
    }
}

fn empty() -> FindingResult {
    FindingResult {
        finding: Finding::default(),
        resource: Resource::default(),
    }
}

fn written(format: Format, result: &FindingResult, time: &str) -> String {
    let message = format.write(&Notification {
        config: "organizations/1/locations/global/notificationConfigs/n",
        result,
        time: Timestamp::parse(time).unwrap(),
        id: "7-1",
    });
    message.unwrap()
}

fn json_of(format: Format, result: &FindingResult) -> Value {
    serde_json::from_str(&written(format, result, "2026-03-01T12:00:02Z")).unwrap()
}

#[test]
fn every_shape_is_one_line_whatever_the_finding_has() {
    for format in [
        Format::Scc,
        Format::Falco,
        Format::Ocsf,
        Format::Ecs,
        Format::Cef,
    ] {
        for result in [full(), empty()] {
            let text = written(format, &result, "2026-03-01T12:00:02Z");
            assert!(!text.chars().any(char::is_control), "{format:?}: {text}");
        }
    }
}

#[test]
fn scc_s_message_has_no_field_that_its_receivers_do_not_know() {
    let mut result = full();
    result.finding.files = vec![File {
        path: "/tmp/x".to_owned(),
        file_load_state: "LOADED_BY_PROCESS".to_owned(),
        ..File::default()
    }];
    result
        .finding
        .other
        .insert("unheardOf".to_owned(), 1.into());
    let message = json_of(Format::Scc, &result);
    assert_eq!(message["finding"]["files"], json!([{"path": "/tmp/x"}]));
    assert_eq!(message["finding"]["unheardOf"], Value::Null);
}

#[test]
fn scc_s_message_holds_the_finding_as_it_was() {
    let message = json_of(Format::Scc, &full());
    assert_eq!(
        message["notificationConfigName"],
        "organizations/1/locations/global/notificationConfigs/n"
    );
    let finding: Finding = serde_json::from_value(message["finding"].clone()).unwrap();
    // As the API shows it.
    let mut expected = full().finding;
    expected.canonical_name.clone_from(&expected.name);
    assert_eq!(finding, expected);
}

#[test]
fn falco_s_fields_are_those_that_falcosidekick_reads() {
    let message = json_of(Format::Falco, &full());
    assert_eq!(message["priority"], "Critical");
    assert_eq!(message["time"], "2026-03-01T12:00:01Z");
    assert_eq!(
        message["output_fields"]["container.image.repository"],
        "registry.test:5000/shop"
    );
    assert_eq!(message["output_fields"]["proc.cmdline"], "/tmp/x -x|y=z");
    for key in ["output", "rule", "source", "hostname"] {
        assert!(message[key].is_string(), "{key}");
    }
}

#[test]
fn ocsf_says_what_became_of_the_finding() {
    let type_of = |result: &FindingResult, time: &str| {
        let message: Value = serde_json::from_str(&written(Format::Ocsf, result, time)).unwrap();
        message["type_uid"].as_u64().unwrap()
    };
    let mut result = full();
    assert_eq!(type_of(&result, "2026-03-01T12:00:02Z"), 200_401);
    assert_eq!(type_of(&result, "2026-03-01T12:30:00Z"), 200_402);
    result.finding.state = State::Inactive;
    assert_eq!(type_of(&result, "2026-03-01T12:30:00Z"), 200_403);
    let message = json_of(Format::Ocsf, &full());
    let process = &message["evidences"][0]["process"];
    assert_eq!(process["parent_process"]["pid"], 1);
    assert_eq!(
        message["finding_info"]["attacks"][1]["technique"]["uid"],
        "T1106"
    );
}

#[test]
fn ocsf_leaves_out_what_has_not_its_form() {
    let container = |image: &str, pod: &str| {
        let mut result = full();
        result.finding.containers[0].image_id = image.to_owned();
        let properties = &mut result.finding.source_properties;
        properties.insert("Pod_Uid".to_owned(), pod.into());
        json_of(Format::Ocsf, &result)["evidences"][0]["container"].take()
    };
    let digest = "cd".repeat(32);
    let pod = "0d6f8a52-7a6f-4bb1-9a35-8f6f5e2c1b3a";
    let good = container(&format!("sha256:{digest}"), pod);
    assert_eq!(good["hash"]["value"], digest);
    assert_eq!(good["pod_uuid"], pod);
    for (image, pod) in [("sha256:<b>", "<b>"), ("sha256:cdcd", "0d6f8a52"), ("", "")] {
        let bad = container(image, pod);
        assert_eq!(bad.get("hash"), None, "{image}");
        assert_eq!(bad.get("pod_uuid"), None, "{pod}");
    }
}

#[test]
fn ecs_keeps_hash_and_image_apart() {
    let message = json_of(Format::Ecs, &full());
    assert_eq!(message["process"]["hash"]["sha256"], "ab".repeat(32));
    assert_eq!(
        message["container"]["image"]["hash"]["all"][0],
        "cd".repeat(32)
    );
    assert_eq!(
        message["threat"]["technique"]["id"],
        json!(["T1105", "T1106"])
    );
}

#[test]
fn cef_escapes_what_would_end_a_field() {
    let message = written(Format::Cef, &full(), "2026-03-01T12:00:02Z");
    assert!(
        message.starts_with("CEF:0|Hullwatch|Hullwatch|"),
        "{message}"
    );
    assert!(
        message.contains("|Execution: Added Malicious Binary Executed|10|"),
        "{message}"
    );
    assert!(message.contains(r"cs4=/tmp/x -x|y\=z"), "{message}");
    assert!(
        message.contains(r"msg=A program ran.\nIt is bad."),
        "{message}"
    );
}
