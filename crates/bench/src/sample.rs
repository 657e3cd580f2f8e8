//! Findings as detection makes them, as many as wanted, each different and always the same.

use model::Timestamp;
use model::finding::{
    Container, EnvironmentVariable, File, Finding, FindingClass, FindingResult, GcpMetadata,
    Indicator, MitreAttack, Mute, Process, Resource, Severity, State,
};
use serde_json::json;

/// 2026-01-01, in nanoseconds.
const START: u64 = 1_767_225_600_000_000_000;

/// What samples are spread over.
pub(crate) const NINETY_DAYS_MS: u64 = 90 * 86_400 * 1000;

/// A finding with three processes, a container and indicators: 400 services, 2,000 containers, 40 categories, 15,000
/// binaries, 65,536 addresses. `milliseconds` after the start.
pub(crate) fn finding(number: u64, milliseconds: u64) -> FindingResult {
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let severities = [
        Severity::Critical,
        Severity::High,
        Severity::Medium,
        Severity::Low,
    ];
    let service = mix % 400;
    let resource_name = format!(
        "//run.googleapis.com/projects/shop/locations/europe-west2/services/service-{service}"
    );
    let category = mix / 400 % 40;
    // Ids are hashes of what happened: no order in them.
    let key = u128::from(number).wrapping_mul(0x2d99_787f_4d2b_a1f3_9e37_79b9_7f4a_7c15);
    FindingResult {
        finding: Finding {
            name: format!("organizations/1/sources/1/locations/global/findings/{key:032x}"),
            resource_name: resource_name.clone(),
            state: if mix.is_multiple_of(11) {
                State::Inactive
            } else {
                State::Active
            },
            mute: if mix.is_multiple_of(13) {
                Mute::Muted
            } else {
                Mute::Undefined
            },
            category: format!("Category {category}"),
            module_name: format!("CLOUD_RUN_CATEGORY_{category}"),
            severity: severities[(category % 4) as usize],
            finding_class: FindingClass::Threat,
            event_time: Some(Timestamp(START + milliseconds * 1_000_000)),
            parent_display_name: "Hullwatch".to_owned(),
            description:
                "A program ran that is not part of the container image and is known to be malicious. "
                    .repeat(4),
            next_steps:
                "Look at the container's other findings; stop it; rebuild the image. ".repeat(6),
            mitre_attack: Some(MitreAttack {
                primary_tactic: "EXECUTION".to_owned(),
                primary_techniques: vec![
                    "INGRESS_TOOL_TRANSFER".to_owned(),
                    "NATIVE_API".to_owned(),
                ],
                version: "17".to_owned(),
                ..MitreAttack::default()
            }),
            indicator: Indicator {
                ip_addresses: vec![format!("10.0.{}.{}", mix / 256 % 256, mix % 256)],
                ..Indicator::default()
            },
            processes: vec![
                process(
                    mix,
                    "drop",
                    format!("/tmp/drop-{}", mix % 2000),
                    &["/tmp/drop", "--quiet"],
                ),
                process(
                    mix,
                    "sh",
                    "/bin/sh".to_owned(),
                    &["sh", "-c", "/tmp/drop --quiet"],
                ),
                process(
                    mix,
                    "server",
                    "/usr/bin/server".to_owned(),
                    &["server", "--listen", "0.0.0.0:8080"],
                ),
            ],
            containers: vec![Container {
                name: format!("container-{}", mix % 2000),
                uri: format!("registry.test/shop/service-{service}:latest"),
                image_id: format!("sha256:{service:064x}"),
                ..Container::default()
            }],
            source_properties: [
                (
                    "Container_Id".to_owned(),
                    json!(format!("{:064x}", mix % 2000)),
                ),
                ("Provenance".to_owned(), json!("added")),
            ]
            .into(),
            ..Finding::default()
        },
        resource: Resource {
            name: resource_name,
            display_name: format!("service-{service}"),
            kind: "run.googleapis.com/Service".to_owned(),
            service: "run.googleapis.com".to_owned(),
            gcp_metadata: Some(GcpMetadata {
                project: "//cloudresourcemanager.googleapis.com/projects/123".to_owned(),
                project_display_name: "shop".to_owned(),
                ..GcpMetadata::default()
            }),
            ..Resource::default()
        },
    }
}

fn process(mix: u64, name: &str, path: String, args: &[&str]) -> Process {
    Process {
        name: name.to_owned(),
        binary: Some(File {
            sha256: format!("{:064x}", path.len() as u64 * 1000 + mix % 5000),
            path,
            size: 68_000,
            hashed_size: 68_000,
            ..File::default()
        }),
        args: args.iter().map(|&argument| argument.to_owned()).collect(),
        env_variables: (0..8)
            .map(|number| EnvironmentVariable {
                name: format!("VARIABLE_{number}"),
                val: "(redacted)".to_owned(),
            })
            .collect(),
        pid: (mix % 4_000_000) as i64,
        parent_pid: 1,
        ..Process::default()
    }
}
