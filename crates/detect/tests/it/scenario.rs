//! Made-up events, as the enricher would give them, from which the first recordings are written.

mod errors;
mod files;
mod openssl;

use std::sync::Arc;

use detect::samples::{self, Machine, Sample};
use model::{
    Text, Timestamp,
    enriched::{
        Ancestor, Container, Content, Engine, EnrichedEvent, EnrichedPayload, EnvVariable, File,
        FileKind, IndicatorMatch, Mount, Process, Settings,
    },
    event::{Credentials, FileKey, ProcessKey},
    provenance::{Evidence, Provenance},
};

/// One recording: detector, file name without extension, what was done, what was seen.
pub(crate) struct Scenario {
    pub(crate) detector: &'static str,
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) events: Vec<EnrichedEvent>,
}

pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000_000_000);

pub(crate) fn container() -> Container {
    Container {
        id: "4f0c1d7e9a8b".repeat(5) + "0c1d",
        name: "web-1".to_owned(),
        engine: Engine::Docker,
        image: "example.test/shop/web:v3".to_owned(),
        image_digest: Some(format!("sha256:{}", "ab".repeat(32))),
        labels: [("team".to_owned(), "shop".to_owned())].into(),
        created: Some(START),
        settings: Settings {
            command: vec![
                "/usr/bin/web".to_owned(),
                "--db-password=hunter2".to_owned(),
            ],
            env: vec![
                ("PATH".to_owned(), Some("/usr/bin:/bin".to_owned())),
                ("DB_PASSWORD".to_owned(), None),
            ],
            user: "0:0".to_owned(),
            capabilities: vec!["CAP_CHOWN".to_owned(), "CAP_SYS_ADMIN".to_owned()],
            seccomp: true,
            mounts: vec![Mount {
                destination: "/var/run/docker.sock".to_owned(),
                source: "/run/docker.sock".to_owned(),
                kind: "bind".to_owned(),
                writable: true,
            }],
            ..Settings::default()
        },
        ..Container::default()
    }
}

pub(crate) fn file(path: &str, sample: Sample, provenance: Provenance) -> File {
    // Expected files hold hashes: they are of one machine, whichever this is.
    let bytes = sample.bytes_for(Machine::X86_64);
    let sha256 = sample.sha256_for(Machine::X86_64);
    let kind = match sample.kind {
        samples::Kind::Library | samples::Kind::SlowLibrary => FileKind::SharedObject,
        samples::Kind::Script => FileKind::Script,
        samples::Kind::Eicar => FileKind::Data,
        samples::Kind::Program | samples::Kind::Mapper => FileKind::Program,
    };
    let family = samples::indicators().find(|(known, _)| *known == sha256);
    File {
        path: path.into(),
        path_used: None,
        content: Content::Known {
            sha256,
            size: bytes.len() as u64,
        },
        key: Some(FileKey {
            device: 42,
            inode: u64::from(sha256.0[0]) << 8 | u64::from(sha256.0[1]),
            size: bytes.len() as u64,
            mtime_ns: 7,
            ctime_ns: 7,
        }),
        provenance,
        evidence: match provenance {
            Provenance::Modified => Evidence {
                image_sha256: Some(samples::ORDINARY_PROGRAM.sha256_for(Machine::X86_64)),
                image_layer: Some("/var/lib/docker/overlay2/l/ABC".into()),
                ..Evidence::default()
            },
            Provenance::BuiltIn => Evidence {
                image_sha256: Some(sha256),
                image_layer: Some("/var/lib/docker/overlay2/l/ABC".into()),
                ..Evidence::default()
            },
            _ => Evidence::default(),
        },
        matches: family
            .map(|(sha256, family)| IndicatorMatch {
                list: "hullwatch-built-in".to_owned(),
                entry: sha256.to_string(),
                date: None,
                family: Some(family),
            })
            .into_iter()
            .collect(),
        kind,
        contents: matches!(kind, FileKind::Script | FileKind::Data)
            .then(|| Text::from(bytes.clone())),
        is_memfd: false,
    }
}

/// A program of the image that nobody knows.
pub(crate) fn ordinary(path: &str, kind: FileKind) -> File {
    File {
        kind,
        ..file(path, samples::ORDINARY_PROGRAM, Provenance::BuiltIn)
    }
}

pub(crate) fn process(binary: File, args: &[&str]) -> Process {
    Process {
        key: ProcessKey {
            pid: 4711,
            start_ns: 99,
        },
        pid_in_namespace: 53,
        name: Text::from(binary.path.file_name()),
        binary: Some(Arc::new(binary)),
        args: args.iter().map(|&argument| argument.into()).collect(),
        env: Arc::new(vec![EnvVariable {
            name: "DB_PASSWORD".into(),
            value: None,
        }]),
        cwd: "/srv".into(),
        credentials: Credentials {
            uid: 1000,
            euid: 1000,
            ..Credentials::default()
        },
        ancestors: vec![
            Arc::new(Ancestor {
                key: ProcessKey {
                    pid: 4700,
                    start_ns: 50,
                },
                pid_in_namespace: 12,
                name: "sh".into(),
                path: Some("/bin/sh".into()),
                args: vec!["sh".into(), "-c".into(), "TOKEN=abc /tmp/x".into()],
                args_truncated: false,
                uid: 1000,
            }),
            Arc::new(Ancestor {
                key: ProcessKey {
                    pid: 4600,
                    start_ns: 1,
                },
                pid_in_namespace: 1,
                name: "web".into(),
                path: Some("/usr/bin/web".into()),
                args: vec!["/usr/bin/web".into()],
                args_truncated: false,
                uid: 1000,
            }),
        ],
        exec_time: Some(START.plus_ns(1_500_000_000)),
        ..Process::default()
    }
}

fn event(process: Process, payload: EnrichedPayload) -> EnrichedEvent {
    EnrichedEvent {
        time: START.plus_ns(2_000_000_000),
        container: Some(Arc::new(container())),
        process: Some(Arc::new(process)),
        payload,
    }
}

pub(crate) fn exec(binary: File, args: &[&str]) -> EnrichedEvent {
    event(process(binary, args), EnrichedPayload::Exec)
}

pub(crate) fn load(binary: File, args: &[&str], library: File) -> EnrichedEvent {
    let library = Arc::new(library);
    event(
        process(binary, args),
        EnrichedPayload::LibraryLoad { library },
    )
}

pub(crate) fn all() -> Vec<Scenario> {
    [files::all(), openssl::all(), errors::all()]
        .into_iter()
        .flatten()
        .collect()
}

fn scenario(
    detector: &'static str,
    name: &'static str,
    about: &'static str,
    events: Vec<EnrichedEvent>,
) -> Scenario {
    Scenario {
        detector,
        name,
        about,
        events,
    }
}

fn shell() -> File {
    ordinary("/bin/sh", FileKind::Interpreter)
}
