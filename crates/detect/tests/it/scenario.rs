//! Made-up events, as the enricher would give them, from which the first recordings are written.

use std::sync::Arc;

use detect::samples::{self, Machine, Sample};
use model::{
    Text, Timestamp,
    enriched::{
        Ancestor, Container, Content, Engine, EnrichedEvent, EnrichedPayload, EnvVariable, File,
        FileKind, IndicatorMatch, Mount, Process, Settings,
    },
    event::{
        Credentials, FileKey, Loss, LossSource, ProcessKey, Sensor, SensorCondition, SensorState,
    },
    provenance::{Evidence, MissingReason, Provenance, UnknownReason},
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
        contents: matches!(kind, FileKind::Script | FileKind::Data).then(|| Text(bytes.clone())),
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

/// A file of the image that was mapped by a process which was gone before anything could be opened.
fn unread(path: &str) -> File {
    File {
        content: Content::Missing {
            reason: MissingReason::ProcessGone,
        },
        key: None,
        provenance: Provenance::Unknown(UnknownReason::NoContent),
        kind: FileKind::Unknown,
        ..ordinary(path, FileKind::SharedObject)
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
        env: vec![EnvVariable {
            name: "DB_PASSWORD".into(),
            value: None,
        }],
        cwd: "/srv".into(),
        credentials: Credentials {
            uid: 1000,
            euid: 1000,
            ..Credentials::default()
        },
        ancestors: vec![
            Ancestor {
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
            },
            Ancestor {
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
            },
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

fn script(payload: EnrichedPayload, interpreter: File, script: File) -> EnrichedEvent {
    let path = script.path.to_json_string();
    let mut process = process(interpreter, &["sh", &path]);
    process.script = Some(Arc::new(script));
    event(process, payload)
}

fn with_env(mut event: EnrichedEvent, name: &str, value: &str) -> EnrichedEvent {
    let mut process = event.process.as_deref().cloned().unwrap();
    process.env.push(EnvVariable {
        name: name.into(),
        value: Some(value.into()),
    });
    event.process = Some(Arc::new(process));
    event
}

fn about_agent(payload: EnrichedPayload) -> EnrichedEvent {
    EnrichedEvent {
        time: START,
        container: None,
        process: None,
        payload,
    }
}

fn sensor(sensor: Sensor, condition: SensorCondition, detail: &str) -> EnrichedEvent {
    about_agent(EnrichedPayload::SensorState(SensorState {
        sensor,
        condition,
        detail: detail.to_owned(),
    }))
}

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = programs();
    all.extend(libraries());
    all.extend(drift());
    all.extend(openssl());
    all.extend(errors());
    all
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

fn programs() -> Vec<Scenario> {
    use Provenance::{Added, BuiltIn, Modified, Unknown};
    let known = samples::ADDED_PROGRAM;
    let run = |provenance| exec(file("/tmp/x", known, provenance), &["/tmp/x"]);
    let no_image = Unknown(UnknownReason::NoImage);
    let added = "added_malicious_binary_executed";
    vec![
        scenario(
            added,
            "fires_new_file",
            "a program written to /tmp and run",
            vec![run(Added)],
        ),
        scenario(
            added,
            "fires_script",
            "a #! script written to /tmp and run",
            vec![script(
                EnrichedPayload::Exec,
                shell(),
                file("/tmp/s", samples::ADDED_SCRIPT, Added),
            )],
        ),
        scenario(
            added,
            "fires_file_without_magic",
            "EICAR written to /tmp and run: execve fails, the shell reads it",
            vec![script(
                EnrichedPayload::ScriptRun,
                shell(),
                file("/tmp/eicar", samples::EICAR, Added),
            )],
        ),
        scenario(
            added,
            "fires_interpreter_and_script",
            "a known script given to a known interpreter: two facts",
            vec![script(
                EnrichedPayload::Exec,
                file("/tmp/sh", known, Added),
                file("/tmp/s", samples::ADDED_SCRIPT, Added),
            )],
        ),
        scenario(
            added,
            "fires_memfd",
            "a known program run from memory",
            vec![exec(
                File {
                    is_memfd: true,
                    evidence: Evidence {
                        unnamed: true,
                        ..Evidence::default()
                    },
                    ..file("/memfd:x", known, Added)
                },
                &["x"],
            )],
        ),
        scenario(
            added,
            "quiet_other_provenance",
            "known programs that are not added",
            vec![run(BuiltIn), run(Modified), run(no_image)],
        ),
        scenario(
            added,
            "quiet_not_known",
            "a program nobody knows, and one whose bytes could not be read, written to /tmp and run",
            vec![
                exec(
                    file("/tmp/y", samples::UNLISTED_PROGRAM, Added),
                    &["/tmp/y"],
                ),
                exec(
                    File {
                        content: Content::Missing {
                            reason: MissingReason::ProcessGone,
                        },
                        ..file("/tmp/y", samples::UNLISTED_PROGRAM, Added)
                    },
                    &["/tmp/y"],
                ),
            ],
        ),
        scenario(
            added,
            "quiet_loaded_as_library",
            "a known program that is mapped by ld.so is a library",
            vec![load(
                ordinary("/lib64/ld.so", FileKind::DynamicLoader),
                &["ld.so", "/tmp/x"],
                file("/tmp/x", known, Added),
            )],
        ),
        scenario(
            "modified_malicious_binary_executed",
            "fires_patched",
            "a program of the image overwritten and run",
            vec![run(Modified)],
        ),
        scenario(
            "modified_malicious_binary_executed",
            "quiet_other_provenance",
            "known programs that are not modified",
            vec![run(BuiltIn), run(Added), run(no_image)],
        ),
        scenario(
            "built_in_malicious_binary_executed",
            "fires_image_file",
            "a program of the image run",
            vec![run(BuiltIn)],
        ),
        scenario(
            "built_in_malicious_binary_executed",
            "quiet_other_provenance",
            "known programs that are not built in, and one of the image that nobody knows",
            vec![
                run(Added),
                run(Modified),
                run(no_image),
                exec(shell(), &["sh"]),
            ],
        ),
        scenario(
            "malicious_binary_executed",
            "fires_no_image",
            "a known program run on a plain root",
            vec![run(no_image)],
        ),
        scenario(
            "malicious_binary_executed",
            "quiet_judged",
            "known programs with a verdict, and an unknown one without",
            vec![
                run(Added),
                run(Modified),
                run(BuiltIn),
                exec(
                    file("/tmp/y", samples::UNLISTED_PROGRAM, no_image),
                    &["/tmp/y"],
                ),
            ],
        ),
    ]
}

fn libraries() -> Vec<Scenario> {
    use Provenance::{Added, BuiltIn, Modified, Unknown};
    let known = samples::ADDED_LIBRARY;
    let map = |provenance| {
        load(
            ordinary("/usr/bin/web", FileKind::Program),
            &["/usr/bin/web"],
            file("/tmp/x.so", known, provenance),
        )
    };
    let unknown = Unknown(UnknownReason::ContainerGone);
    let all = [Added, Modified, BuiltIn, unknown];
    let others = |wanted| all.into_iter().filter(|p| *p != wanted).map(map).collect();
    [
        ("added_malicious_library_loaded", Added),
        ("modified_malicious_library_loaded", Modified),
        ("built_in_malicious_library_loaded", BuiltIn),
        ("malicious_library_loaded", unknown),
    ]
    .into_iter()
    .flat_map(|(detector, provenance)| {
        [
            scenario(
                detector,
                "fires_mapped",
                "a known library is mapped as code",
                vec![map(provenance)],
            ),
            scenario(
                detector,
                "quiet_other_provenance",
                "known libraries with another verdict",
                others(provenance),
            ),
            scenario(
                detector,
                "quiet_own_program",
                "a known program's own mapping is no library load",
                vec![load(
                    file("/tmp/x", samples::ADDED_PROGRAM, provenance),
                    &["/tmp/x"],
                    file("/tmp/x", samples::ADDED_PROGRAM, provenance),
                )],
            ),
        ]
    })
    .collect()
}

fn drift() -> Vec<Scenario> {
    use Provenance::{Added, BuiltIn, Modified, Unknown};
    let program = samples::UNLISTED_PROGRAM;
    let library = samples::UNLISTED_LIBRARY;
    let run = |provenance| exec(file("/tmp/y", program, provenance), &["/tmp/y"]);
    let map = |provenance| load(shell(), &["sh"], file("/tmp/y.so", library, provenance));
    let unknown = Unknown(UnknownReason::NoImage);
    vec![
        scenario(
            "added_binary_executed",
            "fires_added_and_modified",
            "programs nobody knows, new and changed",
            vec![run(Added), run(Modified)],
        ),
        scenario(
            "added_binary_executed",
            "quiet_no_drift",
            "built in, not judged, or known (which is another finding)",
            vec![
                run(BuiltIn),
                run(unknown),
                exec(file("/tmp/x", samples::ADDED_PROGRAM, Added), &["/tmp/x"]),
            ],
        ),
        scenario(
            "added_library_loaded",
            "fires_added_and_modified",
            "libraries nobody knows, new and changed",
            vec![map(Added), map(Modified)],
        ),
        scenario(
            "added_library_loaded",
            "quiet_no_drift",
            "built in, not judged, or known (which is another finding)",
            vec![
                map(BuiltIn),
                map(unknown),
                load(
                    shell(),
                    &["sh"],
                    file("/tmp/x.so", samples::ADDED_LIBRARY, Added),
                ),
            ],
        ),
    ]
}

fn openssl() -> Vec<Scenario> {
    use Provenance::{Added, BuiltIn, Modified, Unknown};
    const ID: &str = "suspicious_openssl_shared_object_loaded";
    let openssl = || ordinary("/usr/bin/openssl", FileKind::OpensslProgram);
    let engine = |path, provenance| file(path, samples::ENGINE, provenance);
    let args = ["openssl", "engine", "-t", "/tmp/e.so"];
    let loader = || ordinary("/lib64/ld-linux-x86-64.so.2", FileKind::DynamicLoader);
    let by_loader = [
        "/lib64/ld-linux-x86-64.so.2",
        "/tmp/copy",
        "engine",
        "/tmp/e.so",
    ];
    vec![
        scenario(
            ID,
            "fires_engine_path",
            "openssl engine -t /tmp/e.so: asked for, then loaded; one fact",
            vec![
                exec(openssl(), &args),
                load(openssl(), &args, engine("/tmp/e.so", Added)),
            ],
        ),
        scenario(
            ID,
            "fires_renamed_program",
            "a renamed copy of openssl, -engine with =",
            vec![exec(
                File {
                    provenance: Added,
                    ..ordinary("/tmp/harmless", FileKind::OpensslProgram)
                },
                &["harmless", "req", "-new", "--engine=/tmp/e.so"],
            )],
        ),
        scenario(
            ID,
            "fires_through_dynamic_loader",
            "ld.so COPY engine /tmp/e.so: the copy is a library of ld.so, the engine another",
            vec![
                exec(loader(), &by_loader),
                load(
                    loader(),
                    &by_loader,
                    File {
                        provenance: Added,
                        ..ordinary("/tmp/copy", FileKind::OpensslProgram)
                    },
                ),
                load(loader(), &by_loader, engine("/tmp/e.so", Added)),
            ],
        ),
        scenario(
            ID,
            "fires_provider_path",
            "-provider-path DIR -provider NAME",
            vec![exec(
                openssl(),
                &[
                    "openssl",
                    "list",
                    "-provider-path",
                    "/tmp/m",
                    "-provider",
                    "p",
                ],
            )],
        ),
        scenario(
            ID,
            "fires_configuration",
            "OPENSSL_CONF of one's own, which loads an object; the arguments say nothing",
            vec![
                with_env(
                    exec(openssl(), &["openssl", "req", "-new"]),
                    "OPENSSL_CONF",
                    "/tmp/c",
                ),
                with_env(
                    load(
                        openssl(),
                        &["openssl", "req", "-new"],
                        engine("/srv/data/e.so", BuiltIn),
                    ),
                    "OPENSSL_CONF",
                    "/tmp/c",
                ),
            ],
        ),
        scenario(
            ID,
            "fires_ordinary_name",
            "OPENSSL_CONF of one's own, and an object that is called like a library of openssl",
            vec![
                with_env(
                    load(
                        openssl(),
                        &["openssl", "req", "-new"],
                        engine("/srv/data/libcrypto-e.so", BuiltIn),
                    ),
                    "OPENSSL_CONF",
                    "/tmp/c",
                ),
                with_env(
                    load(
                        openssl(),
                        &["openssl", "req", "-new"],
                        engine("/tmp/libssl.so.3", Unknown(UnknownReason::NoImage)),
                    ),
                    "OPENSSL_CONF",
                    "/tmp/c",
                ),
            ],
        ),
        scenario(
            ID,
            "fires_not_judged",
            "an object from /tmp is loaded where no image is known",
            vec![load(
                openssl(),
                &["openssl", "version"],
                engine("/tmp/e.so", Unknown(UnknownReason::NoImage)),
            )],
        ),
        scenario(
            ID,
            "quiet_ordinary_use",
            "version, a request for a certificate, installed engines and providers, with their libraries",
            vec![
                exec(openssl(), &["openssl", "version"]),
                exec(
                    openssl(),
                    &[
                        "openssl", "req", "-new", "-keyout", "/tmp/k", "-out", "/tmp/r",
                    ],
                ),
                exec(openssl(), &["openssl", "rand", "-engine", "rdrand", "8"]),
                exec(
                    openssl(),
                    &["openssl", "list", "-provider", "legacy", "-providers"],
                ),
                load(
                    openssl(),
                    &["openssl", "version"],
                    ordinary(
                        "/lib/x86_64-linux-gnu/libcrypto.so.3",
                        FileKind::SharedObject,
                    ),
                ),
                load(
                    openssl(),
                    &["openssl", "list", "-provider", "legacy"],
                    ordinary(
                        "/usr/lib/x86_64-linux-gnu/ossl-modules/legacy.so",
                        FileKind::SharedObject,
                    ),
                ),
                with_env(
                    exec(openssl(), &["openssl", "req", "-new"]),
                    "OPENSSL_CONF",
                    "/tmp/c",
                ),
                with_env(
                    load(
                        ordinary("/srv/app/bin/openssl", FileKind::OpensslProgram),
                        &["openssl", "version"],
                        ordinary("/srv/app/lib/libcrypto.so.3", FileKind::SharedObject),
                    ),
                    "OPENSSL_CONF",
                    "/srv/app/openssl.cnf",
                ),
            ],
        ),
        scenario(
            ID,
            "fires_installed_object",
            "an object is put among the installed modules, one beside the libraries, and a library is called like one of openssl's elsewhere",
            [
                "/usr/lib/x86_64-linux-gnu/ossl-modules/evil.so",
                "/usr/lib/x86_64-linux-gnu/evil.so",
                "/tmp/libcrypto.so.3",
            ]
            .map(|path| load(openssl(), &["openssl", "version"], engine(path, Added)))
            .to_vec(),
        ),
        scenario(
            ID,
            "quiet_package_installed",
            "apt-get install in a slim image brings openssl's libraries and renews libc; its scripts run openssl rehash",
            [
                ("/usr/lib/x86_64-linux-gnu/libssl.so.3", Added),
                ("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", Added),
                ("/usr/lib/x86_64-linux-gnu/libc.so.6", Modified),
            ]
            .map(|(path, provenance)| {
                load(
                    File {
                        provenance: Added,
                        ..openssl()
                    },
                    &["openssl", "rehash", "/etc/ssl/certs"],
                    File {
                        provenance,
                        ..ordinary(path, FileKind::SharedObject)
                    },
                )
            })
            .to_vec(),
        ),
        scenario(
            ID,
            "quiet_gone_at_once",
            "openssl version in a container that is gone before its mappings are looked at: only their paths are known",
            vec![
                exec(openssl(), &["openssl", "version"]),
                load(
                    openssl(),
                    &["openssl", "version"],
                    unread("/usr/bin/openssl"),
                ),
                load(
                    openssl(),
                    &["openssl", "version"],
                    unread("/usr/lib/x86_64-linux-gnu/libcrypto.so.3"),
                ),
            ],
        ),
        scenario(
            ID,
            "quiet_other_programs",
            "another program with the same arguments and the same library; a loader that runs something else",
            vec![
                exec(ordinary("/usr/bin/openssl", FileKind::Program), &args),
                load(shell(), &["sh"], engine("/tmp/e.so", Added)),
                load(
                    loader(),
                    &["ld.so", "/bin/true"],
                    engine("/tmp/e.so", Added),
                ),
            ],
        ),
    ]
}

fn errors() -> Vec<Scenario> {
    let lost = |source| {
        about_agent(EnrichedPayload::Loss(Loss {
            source,
            count: 12_345,
        }))
    };
    let of_container = |payload| EnrichedEvent {
        container: Some(Arc::new(container())),
        ..about_agent(payload)
    };
    let not_covered = EnrichedEvent {
        container: Some(Arc::new(container())),
        ..about_agent(EnrichedPayload::NotCovered {
            what: "Container web-1 has its root on ext4, not on an overlay, and no copy of its image was found.".to_owned(),
        })
    };
    vec![
        scenario(
            "sensor_lost",
            "fires_lost_and_gap",
            "a sensor that failed, and an agent that was frozen",
            vec![
                sensor(
                    Sensor::Fanotify,
                    SensorCondition::Lost,
                    "fanotify_init failed: operation not permitted",
                ),
                sensor(
                    Sensor::Agent,
                    SensorCondition::Gap,
                    "nothing was seen for 15 s",
                ),
            ],
        ),
        scenario(
            "sensor_lost",
            "quiet_running",
            "a sensor that started",
            vec![sensor(Sensor::Ebpf, SensorCondition::Running, "attached")],
        ),
        scenario(
            "events_dropped",
            "fires_each_place",
            "losses in two places, one of them twice",
            vec![
                lost(LossSource::ExecRing),
                lost(LossSource::Fanotify),
                lost(LossSource::ExecRing),
            ],
        ),
        scenario(
            "events_dropped",
            "fires_of_a_container",
            "what was not judged of one container",
            vec![
                of_container(EnrichedPayload::Unhashed {
                    files: [(MissingReason::Overload, 7), (MissingReason::TooLarge, 2)].into(),
                }),
                of_container(EnrichedPayload::Loss(Loss {
                    source: LossSource::UnknownProcess,
                    count: 3,
                })),
            ],
        ),
        scenario(
            "events_dropped",
            "fires_once",
            "one of each",
            vec![
                of_container(EnrichedPayload::Unhashed {
                    files: [(MissingReason::NotWatched, 1)].into(),
                }),
                of_container(EnrichedPayload::Loss(Loss {
                    source: LossSource::UnknownProcess,
                    count: 1,
                })),
            ],
        ),
        scenario(
            "events_dropped",
            "quiet_nothing_lost",
            "an ordinary program",
            vec![exec(shell(), &["sh"])],
        ),
        scenario(
            "container_not_covered",
            "fires_plain_root",
            "a container on a plain directory",
            vec![not_covered],
        ),
        scenario(
            "container_not_covered",
            "quiet_covered",
            "an ordinary program",
            vec![exec(shell(), &["sh"])],
        ),
    ]
}
