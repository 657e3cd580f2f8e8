//! Findings as detection makes them, as many as wanted, each different and always the same.

use std::sync::Arc;

use detect::finding::{self, Investigation, Naming, RecentFinding};
use detect::{CATALOGUE, Settings, Spec};
use model::Timestamp;
use model::detection::Detection;
use model::enriched::{
    self, Ancestor, Container, Content, Engine, EnrichedEvent, EnrichedPayload, EnvVariable, File,
    FileKind, IndicatorMatch, Mount, Process,
};
use model::event::ProcessKey;
use model::finding::{FindingResult, Mute, Severity, State};
use model::provenance::{Evidence, Provenance, Sha256};

/// 2026-01-01, in nanoseconds.
const START: u64 = 1_767_225_600_000_000_000;

/// What samples are spread over.
pub(crate) const NINETY_DAYS_MS: u64 = 90 * 86_400 * 1000;

/// A finding with three processes, a container and indicators: 400 services, 2,000 containers, 40 categories, 5,000
/// binaries, 65,536 addresses. `milliseconds` after the start.
pub(crate) fn finding(number: u64, milliseconds: u64) -> FindingResult {
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let time = Timestamp(START + milliseconds * 1_000_000);
    let threats: Vec<&Spec> = CATALOGUE
        .iter()
        .copied()
        .filter(|spec| spec.id.ends_with("_executed"))
        .collect();
    let category = mix / 400 % 40;
    let spec = threats[category as usize % threats.len()];
    let naming = Naming {
        project: Some("shop".to_owned()),
        project_number: Some("123".to_owned()),
        region: Some("europe-west2".to_owned()),
        host: format!("node-{}", mix % 50),
        ..Naming::default()
    };
    let detection = detection(mix, time, spec);
    let settings = Settings::default();
    let mut result = finding::build(&detection, spec, &settings, &naming, &investigation(mix));
    let finding = &mut result.finding;
    // Ids are hashes of what happened: no order in them.
    let key = u128::from(number).wrapping_mul(0x2d99_787f_4d2b_a1f3_9e37_79b9_7f4a_7c15);
    finding.name = format!("{}/findings/{key:032x}", finding.parent);
    // More of them than there are detectors.
    finding.category = format!("Category {category}");
    finding.module_name = format!("CLOUD_RUN_CATEGORY_{category}");
    finding.severity = [
        Severity::Critical,
        Severity::High,
        Severity::Medium,
        Severity::Low,
    ][(category % 4) as usize];
    if mix.is_multiple_of(11) {
        finding.state = State::Inactive;
    }
    if mix.is_multiple_of(13) {
        finding.mute = Mute::Muted;
    }
    finding.indicator.ip_addresses = vec![format!("10.0.{}.{}", mix / 256 % 256, mix % 256)];
    result
}

fn detection(mix: u64, time: Timestamp, spec: &Spec) -> Detection {
    let path = format!("/tmp/drop-{}", mix % 2000);
    let name = format!("container-{}", mix % 2000);
    let binary = Arc::new(file(&path, mix % 5000));
    let identity = binary.sha256().map(|sha256| sha256.to_string());
    Detection {
        detector: spec.id,
        description: format!(
            "The program {path} was run in container {name}. It is not part of the image."
        ),
        identity: identity.into_iter().collect(),
        files: Vec::new(),
        severity: None,
        properties: Vec::new(),
        event: EnrichedEvent {
            time,
            container: Some(Arc::new(container(mix, name))),
            process: Some(Arc::new(process(mix, time, binary))),
            payload: EnrichedPayload::Exec,
        },
    }
}

fn file(path: &str, content: u64) -> File {
    let mut sha256 = [0; 32];
    sha256[24..].copy_from_slice(&content.to_be_bytes());
    let sha256 = Sha256(sha256);
    File {
        path: path.into(),
        path_used: None,
        content: Content::Known {
            sha256,
            size: 68_000 + content * 1000,
        },
        key: None,
        provenance: Provenance::Added,
        evidence: Evidence::default(),
        matches: vec![IndicatorMatch {
            list: "sample".to_owned(),
            entry: sha256.to_string(),
            date: Some(Timestamp(START)),
            family: Some(format!("Family-{}", content % 100)),
        }],
        kind: FileKind::Program,
        contents: None,
        is_memfd: false,
    }
}

fn container(mix: u64, name: String) -> Container {
    let service = mix % 400;
    Container {
        id: format!("{:064x}", mix % 2000),
        name,
        engine: Engine::Containerd,
        image: format!("registry.test/shop/service-{service}:latest"),
        image_digest: Some(format!("sha256:{service:064x}")),
        labels: [
            ("team".to_owned(), format!("team-{}", service % 20)),
            ("tier".to_owned(), format!("tier-{}", service % 3)),
        ]
        .into(),
        created: Some(Timestamp(START)),
        settings: enriched::Settings {
            command: vec!["/usr/bin/server".to_owned(), "--listen".to_owned()],
            env: (0..8)
                .map(|number| (format!("VARIABLE_{number}"), None))
                .chain([("K_SERVICE".to_owned(), Some(format!("service-{service}")))])
                .collect(),
            user: "0:0".to_owned(),
            capabilities: ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"]
                .map(str::to_owned)
                .into(),
            seccomp: true,
            mounts: vec![Mount {
                destination: "/data".to_owned(),
                source: format!("/var/lib/data/{service}"),
                kind: "bind".to_owned(),
                writable: true,
            }],
            ..enriched::Settings::default()
        },
        ..Container::default()
    }
}

fn process(mix: u64, time: Timestamp, binary: Arc<File>) -> Process {
    let pid = (mix % 4_000_000) as u32;
    let ancestor = |pid, name: &str, path: &str, args: &[&str]| {
        Arc::new(Ancestor {
            key: ProcessKey { pid, start_ns: 1 },
            pid_in_namespace: pid % 1000,
            name: name.into(),
            path: Some(path.into()),
            args: args.iter().map(|&argument| argument.into()).collect(),
            ..Ancestor::default()
        })
    };
    Process {
        key: ProcessKey { pid, start_ns: 1 },
        pid_in_namespace: pid,
        name: "drop".into(),
        binary: Some(binary),
        args: vec!["/tmp/drop".into(), "--quiet".into()],
        env: (0..8)
            .map(|number| EnvVariable {
                name: format!("VARIABLE_{number}").as_str().into(),
                value: None,
            })
            .collect::<Vec<_>>()
            .into(),
        cwd: "/srv".into(),
        ancestors: vec![
            ancestor(pid / 2, "sh", "/bin/sh", &["sh", "-c", "/tmp/drop --quiet"]),
            ancestor(
                1000,
                "server",
                "/usr/bin/server",
                &["server", "--listen", "0.0.0.0:8080"],
            ),
        ],
        exec_time: Some(time),
        ..Process::default()
    }
}

/// The last lines of the container's log, some of them always the same, and what was found in it before.
fn investigation(mix: u64) -> Investigation {
    let requests = (0..6).map(|line| format!("GET /item/{} 200", mix.wrapping_add(line)));
    let usual = (0..6).map(|line| format!("worker {line} is ready"));
    Investigation {
        log_tail: usual
            .chain(requests)
            .map(|line| line.as_str().into())
            .collect(),
        recent_findings: vec![RecentFinding {
            name: format!(
                "organizations/1/sources/1/locations/global/findings/{:032x}",
                mix % 2000
            ),
            category: "Added Binary Executed".to_owned(),
            severity: Severity::Low,
            event_time: Some(Timestamp(START)),
        }],
    }
}
