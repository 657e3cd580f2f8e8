//! Programs and libraries: known ones with each verdict, and unknown ones that the image does not have.

use std::sync::Arc;

use detect::samples;
use model::{
    enriched::{Content, EnrichedEvent, EnrichedPayload, File, FileKind},
    provenance::{Evidence, MissingReason, Provenance, UnknownReason},
};

use super::{Scenario, event, exec, file, load, ordinary, process, scenario, shell};

pub(super) fn all() -> Vec<Scenario> {
    [programs(), libraries(), drift()]
        .into_iter()
        .flatten()
        .collect()
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

fn script(payload: EnrichedPayload, interpreter: File, script: File) -> EnrichedEvent {
    let path = script.path.to_json_string();
    let mut process = process(interpreter, &["sh", &path]);
    process.script = Some(Arc::new(script));
    event(process, payload)
}
