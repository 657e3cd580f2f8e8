//! Findings as a user and a parser of Security Command Center read them.

use std::{path::Path, sync::Arc};

use detect::{
    Dispatcher, Settings,
    finding::{self, Investigation, Naming, RecentFinding},
    samples,
};
use model::{
    Text,
    detection::Detection,
    enriched::{Container, Engine, EnrichedEvent, EnvVariable, FileKind, Pod, Process},
    event::ProcessKey,
    finding::{FindingResult, Severity},
    provenance::Provenance,
};

use crate::{
    expect_file,
    replay::everything_on,
    scenario::{self, START, container, exec, file, load, ordinary},
};

fn investigation() -> Investigation {
    Investigation {
        log_tail: vec!["started".into(), "login password=hunter2".into()],
        recent_findings: vec![RecentFinding {
            name: "organizations/1/sources/1/locations/global/findings/0".to_owned(),
            category: "Added Binary Executed".to_owned(),
            severity: Severity::Low,
            event_time: Some(START),
        }],
    }
}

fn naming() -> Naming {
    Naming {
        host: "node-7".to_owned(),
        ..Naming::default()
    }
}

fn detections(event: &EnrichedEvent) -> Vec<Detection> {
    Dispatcher::new(&everything_on()).on_event(event)
}

fn build_with(event: &EnrichedEvent, settings: &Settings, naming: &Naming) -> FindingResult {
    let detections = detections(event);
    let [detection] = detections.as_slice() else {
        panic!("one detection expected: {detections:?}");
    };
    let spec = detect::find(detection.detector).unwrap();
    finding::build(detection, spec, settings, naming, &investigation())
}

fn build(event: &EnrichedEvent) -> FindingResult {
    build_with(event, &Settings::default(), &naming())
}

fn in_container(mut event: EnrichedEvent, change: impl FnOnce(&mut Container)) -> EnrichedEvent {
    let mut container = container();
    change(&mut container);
    event.container = Some(Arc::new(container));
    event
}

fn with_args(mut event: EnrichedEvent, args: Vec<Text>) -> EnrichedEvent {
    let mut process = event.process.as_deref().cloned().unwrap();
    process.args = args;
    event.process = Some(Arc::new(process));
    event
}

fn malicious(provenance: Provenance) -> EnrichedEvent {
    let file = file("/tmp/x", samples::ADDED_PROGRAM, provenance);
    exec(file, &["/tmp/x", "--token=abc", "1"])
}

#[test]
fn whole_findings() {
    let library = file("/tmp/x.so", samples::ADDED_LIBRARY, Provenance::Added);
    let web = ordinary("/usr/bin/web", FileKind::Program);
    for (name, event) in [
        ("modified_program", malicious(Provenance::Modified)),
        ("added_library", load(web, &["/usr/bin/web"], library)),
    ] {
        let json = serde_json::to_string_pretty(&build(&event)).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata/findings")
            .join(format!("{name}.json"));
        expect_file(&path, &format!("{json}\n"));
    }
}

#[test]
fn a_finding_survives_json() {
    for scenario in scenario::all() {
        for detection in scenario.events.iter().flat_map(detections) {
            let spec = detect::find(detection.detector).unwrap();
            let built = finding::build(
                &detection,
                spec,
                &Settings::default(),
                &naming(),
                &investigation(),
            );
            let json = serde_json::to_string(&built).unwrap();
            assert_eq!(serde_json::from_str::<FindingResult>(&json).unwrap(), built);
            let keys = built.finding.source_properties.keys();
            for key in keys {
                // SCC's rule for keys of source properties.
                assert!(
                    key.starts_with(|c: char| c.is_ascii_alphabetic())
                        && key.len() <= 255
                        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                    "{key}"
                );
            }
        }
    }
}

#[test]
fn the_same_fact_has_the_same_id_and_another_fact_another() {
    let id = |event: &EnrichedEvent| build(event).finding.name;
    let first = malicious(Provenance::Added);
    let base = id(&first);
    let digits = base.rsplit('/').next().unwrap();
    assert!(digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit()));

    let mut later = with_args(first.clone(), vec!["/tmp/x".into(), "other".into()]);
    later.time = START.plus_ns(9_000_000_000);
    assert_eq!(
        id(&later),
        base,
        "time and arguments are not part of the fact"
    );

    assert_ne!(id(&malicious(Provenance::Modified)), base);
    let elsewhere = file("/tmp/y", samples::ADDED_PROGRAM, Provenance::Added);
    assert_ne!(id(&exec(elsewhere, &["y"])), base, "another path");
    let other = file("/tmp/x", samples::MODIFIED_PROGRAM, Provenance::Added);
    assert_ne!(id(&exec(other, &["x"])), base, "other bytes");
    let other = in_container(first, |container| container.id = "other".to_owned());
    assert_ne!(id(&other), base, "another container");
}

#[test]
fn request_and_load_of_an_engine_are_one_fact() {
    let openssl = || ordinary("/usr/bin/openssl", FileKind::OpensslProgram);
    let args = ["openssl", "engine", "/tmp/e.so"];
    let library = file("/tmp/e.so", samples::ENGINE, Provenance::BuiltIn);
    let asked = build(&exec(openssl(), &args)).finding;
    let loaded = build(&load(openssl(), &args, library)).finding;
    assert_eq!(asked.name, loaded.name);
    assert_eq!(loaded.processes[0].libraries[0].path, "/tmp/e.so");
}

#[test]
fn nothing_is_claimed_of_a_process_whose_start_was_lost() {
    let library = file("/opt/l.so", samples::ADDED_LIBRARY, Provenance::BuiltIn);
    let mut event = load(ordinary("/bin/x", FileKind::Program), &["x"], library);
    event.process = Some(Arc::new(Process {
        key: ProcessKey {
            pid: 4711,
            start_ns: 0,
        },
        ..Process::default()
    }));
    let finding = build(&event).finding;
    assert_eq!(
        finding.category,
        "Execution: Built in Malicious Library Loaded"
    );
    assert_eq!(finding.processes[0].pid, 4711);
    assert_eq!(finding.processes[0].libraries[0].path, "/opt/l.so");
    assert_eq!(finding.source_properties["Host_Pid"], 4711);
    for claim in ["User_Id", "Capabilities"] {
        let key = format!("Process_Effective_{claim}");
        assert!(!finding.source_properties.contains_key(&key), "{key}");
    }
}

/// A child that has not called exec: only its pid on the host is known.
#[test]
fn a_pid_that_is_not_known_is_the_hosts_wherever_it_is_reported() {
    let mut event = malicious(Provenance::Added);
    let process = Arc::make_mut(event.process.as_mut().unwrap());
    process.pid_in_namespace = 0;
    Arc::make_mut(&mut process.ancestors[0]).pid_in_namespace = 0;
    let on_host = (process.key.pid, process.ancestors[0].key.pid);
    let finding = build(&event).finding;
    let properties = &finding.source_properties;
    assert_eq!(
        (&properties["Pid"], &properties["Parent_Pid"]),
        (&on_host.0.into(), &on_host.1.into())
    );
    assert_eq!(finding.processes[0].pid, i64::from(on_host.0));
}

#[test]
fn a_repeat_does_not_list_itself_among_the_recent_findings() {
    let event = malicious(Provenance::Added);
    let detections = detections(&event);
    let spec = detect::find(detections[0].detector).unwrap();
    let mut investigation = investigation();
    let recent = |investigation: &Investigation| {
        let built = finding::build(
            &detections[0],
            spec,
            &Settings::default(),
            &naming(),
            investigation,
        );
        let snapshot = &built.finding.source_properties["Investigation"];
        let names = snapshot["recentFindings"].as_array().unwrap().len();
        (built.finding.name, names)
    };
    let (name, before) = recent(&investigation);
    investigation.recent_findings.push(RecentFinding {
        name: name.clone(),
        ..investigation.recent_findings[0].clone()
    });
    assert_eq!(recent(&investigation), (name, before));
}

#[test]
fn resources_are_named_by_where_the_container_runs() {
    let event = malicious(Provenance::Added);
    let google = Naming {
        project: Some("shop".to_owned()),
        project_number: Some("123".to_owned()),
        region: Some("europe-west2".to_owned()),
        ..naming()
    };
    let cluster = Naming {
        cluster: Some("prod".to_owned()),
        ..google.clone()
    };
    let service = |container: &mut Container| {
        let name = Some("api".to_owned());
        container.settings.env.push(("K_SERVICE".to_owned(), name));
    };
    let job = |container: &mut Container| {
        let name = Some("nightly".to_owned());
        container
            .settings
            .env
            .push(("CLOUD_RUN_JOB".to_owned(), name));
    };
    let pod = |container: &mut Container| {
        container.engine = Engine::Containerd;
        container.pod = Some(Pod {
            namespace: "shop".to_owned(),
            name: "api-7d/9".to_owned(),
            ..Pod::default()
        });
    };
    let podman = |container: &mut Container| {
        pod(container);
        container.engine = Engine::Podman;
    };
    let id = container().id;
    let check = |naming: &Naming, change: &dyn Fn(&mut Container), name: &str, kind: &str| {
        let event = in_container(event.clone(), change);
        let built = build_with(&event, &Settings::default(), naming);
        assert_eq!(built.resource.name, name);
        assert_eq!(built.finding.resource_name, name);
        assert_eq!(built.resource.kind, kind);
    };
    let run = "//run.googleapis.com/projects/shop/locations/europe-west2";
    let on_host = format!("//hullwatch/hosts/node-7/containers/{id}");
    check(
        &google,
        &service,
        &format!("{run}/services/api"),
        "run.googleapis.com/Service",
    );
    check(
        &google,
        &job,
        &format!("{run}/jobs/nightly"),
        "run.googleapis.com/Job",
    );
    // A claim of the container alone names nobody's project.
    check(&naming(), &service, &on_host, "hullwatch/Container");
    check(
        &cluster,
        &pod,
        "//container.googleapis.com/projects/shop/locations/europe-west2/clusters/prod",
        "container.googleapis.com/Cluster",
    );
    let in_pod = "//kubernetes/clusters/default/namespaces/shop/pods/api-7d%2F9";
    check(&naming(), &pod, in_pod, "k8s.io/Pod");
    check(&google, &podman, &on_host, "hullwatch/Container");

    let built = build_with(&in_container(event, service), &Settings::default(), &google);
    assert!(
        built
            .finding
            .canonical_name
            .starts_with("projects/123/sources/1/locations/global/findings/")
    );
    let metadata = built.resource.gcp_metadata.unwrap();
    assert_eq!(
        metadata.project,
        "//cloudresourcemanager.googleapis.com/projects/123"
    );
}

#[test]
fn a_finding_about_the_agent_is_about_the_host() {
    let scenario = scenario::all()
        .into_iter()
        .find(|scenario| scenario.detector == "events_dropped")
        .unwrap();
    let built = build(&scenario.events[0]);
    assert_eq!(built.resource.name, "//hullwatch/hosts/node-7");
    assert!(built.finding.processes.is_empty() && built.finding.containers.is_empty());
}

#[test]
fn secrets_are_reported_only_when_asked_for() {
    let mut event = malicious(Provenance::Added);
    let mut process = event.process.as_deref().cloned().unwrap();
    Arc::make_mut(&mut process.env).push(EnvVariable {
        name: "LD_PRELOAD".into(),
        value: Some("/tmp/hunter3.so".into()),
    });
    event.process = Some(Arc::new(process));
    let text = serde_json::to_string(&build(&event)).unwrap();
    for secret in ["abc", "hunter2", "hunter3", "/usr/bin:/bin"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let settings = Settings {
        report_env_values: true,
        report_secrets_in_args: true,
        ..Settings::default()
    };
    let text = serde_json::to_string(&build_with(&event, &settings, &naming())).unwrap();
    for secret in ["--token=abc", "hunter2", "hunter3", "/usr/bin:/bin"] {
        assert!(text.contains(secret), "{secret}");
    }
}

#[test]
fn severity_follows_the_settings() {
    let settings: Settings = serde_json::from_str(
        r#"{"detectors": {"added_malicious_binary_executed": {"severity": "MEDIUM"}}}"#,
    )
    .unwrap();
    let event = malicious(Provenance::Added);
    let built = build_with(&event, &settings, &naming());
    assert_eq!(built.finding.severity, Severity::Medium);
    assert!(serde_json::from_str::<Settings>(r#"{"detector": {}}"#).is_err());
}

#[test]
fn arguments_that_were_cut_before_are_reported_as_cut() {
    let mut event = malicious(Provenance::Added);
    let mut process = event.process.as_deref().cloned().unwrap();
    Arc::make_mut(&mut process.ancestors[1]).args_truncated = true;
    event.process = Some(Arc::new(process));
    let processes = build(&event).finding.processes;
    let truncated: Vec<bool> = processes.iter().map(|p| p.arguments_truncated).collect();
    assert_eq!(truncated, [false, false, true]);
}

#[test]
fn hostile_text_stays_bounded_and_valid() {
    let hostile = b"/tmp/\x1b]0;owned\x07\n\xff\xfe\xe2\x80\xae".repeat(2_000);
    let mut event = with_args(
        malicious(Provenance::Added),
        vec![Text::from(hostile.clone()); 100],
    );
    let mut process = event.process.as_deref().cloned().unwrap();
    let mut binary = process.binary.as_deref().cloned().unwrap();
    binary.path = Text::from(hostile.clone());
    binary.path_used = Some(Text::from(hostile.clone()));
    binary.contents = Some(Text::from(hostile.clone()));
    process.binary = Some(Arc::new(binary));
    process.name = Text::from(hostile.clone());
    process.cwd = Text::from(hostile.clone());
    process.ancestors = vec![process.ancestors[0].clone(); 1000];
    for ancestor in process.ancestors.iter_mut().map(Arc::make_mut) {
        ancestor.args = vec![Text::from(hostile.clone())];
    }
    process.env = Arc::new(vec![
        EnvVariable {
            name: "A".into(),
            value: None
        };
        100_000
    ]);
    event.process = Some(Arc::new(process));
    let text = String::from_utf8_lossy(&hostile).into_owned();
    let event = in_container(event, |container| {
        container.name.clone_from(&text);
        container.image.clone_from(&text);
        container.labels = (0..10_000)
            .map(|n| (format!("{n}"), text[..200].to_owned()))
            .collect();
        container.settings.command = vec![text.clone(); 10];
        container.settings.user.clone_from(&text);
    });
    let built = build(&event);
    let json = serde_json::to_string(&built).unwrap();
    assert!(json.len() < 1024 * 1024, "{} bytes", json.len());
    assert_eq!(serde_json::from_str::<FindingResult>(&json).unwrap(), built);
    let controls = built
        .finding
        .description
        .chars()
        .filter(|c| c.is_control())
        .count();
    assert_eq!(controls, 0, "the description is shown to people");
    assert!(built.finding.processes[0].arguments_truncated);
    assert!(built.finding.processes[0].env_variables_truncated);
}
