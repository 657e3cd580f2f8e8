//! What `openssl` is asked to load, and what it loads.

use std::sync::Arc;

use detect::samples;
use model::{
    enriched::{Content, EnrichedEvent, EnvVariable, File, FileKind},
    provenance::{MissingReason, Provenance, UnknownReason},
};

use super::{Scenario, exec, file, load, ordinary, scenario, shell};

pub(super) fn all() -> Vec<Scenario> {
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

fn with_env(mut event: EnrichedEvent, name: &str, value: &str) -> EnrichedEvent {
    let mut process = event.process.as_deref().cloned().unwrap();
    Arc::make_mut(&mut process.env).push(EnvVariable {
        name: name.into(),
        value: Some(value.into()),
    });
    event.process = Some(Arc::new(process));
    event
}
