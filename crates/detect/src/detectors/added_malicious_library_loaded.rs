//! A library was loaded that is not part of the container image, and threat intelligence knows its hash.
//!
//! ## Why it matters
//! Code in a library runs inside a program that is trusted, with its rights and its connections. One that appears while the
//! container runs was brought in by whoever controls the container, and this one is known to be malicious.
//!
//! ## Evidence
//! A file was mapped as executable code; the SHA-256 of the whole file is on an intelligence list, and the image ships no
//! file at that path. `processes[0].binary` is the program that loaded it, `processes[0].libraries` the library. A program
//! that is started through the dynamic loader (`ld.so FILE`) is a library of the loader.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known. Code that is read into memory and made executable there was never mapped from
//! a file and is not seen. A library whose process ends at once may have no hash; its finding, if any, gives the reason.
//! Before Linux 6.14, what is written to a library through a mapping that stays open can go unseen until the kernel has written it
//! to disk, half a minute later.
//!
//! ## Response
//! Treat the container as taken over. Look at how the library was asked for (`LD_PRELOAD`, a plug-in directory, `ld.so`), save
//! it, replace the container, and look for the way in.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EventKind},
    finding::{FindingClass, Severity},
    provenance::Provenance,
};

use crate::{
    attack, known, next_steps, samples,
    simulation::{Simulation, Step},
    spec::{Spec, Stage},
};

const PATH: &str = "/tmp/libhullwatch-added.so";

pub(crate) static SPEC: Spec = Spec {
    id: "added_malicious_library_loaded",
    category: "Execution: Added Malicious Library Loaded",
    module_name: "CLOUD_RUN_ADDED_MALICIOUS_LIBRARY_LOADED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(attack::LIBRARY),
    consumes: &[EventKind::LibraryLoad],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        next_steps::OTHER_FINDINGS,
        next_steps::VIRUSTOTAL,
        "Find out how the program came to load it: LD_PRELOAD or LD_LIBRARY_PATH in its environment, a plug-in setting, or the dynamic loader given a file.",
        next_steps::SETTINGS,
        next_steps::LOGS,
        next_steps::EVIDENCE,
        next_steps::REDEPLOY,
        next_steps::SECRETS,
    ],
    simulation: Simulation::in_overlay(
        "Writes a harmless library, whose hash the built-in list names, to a path that the image does not have, and maps it as code.",
        &[],
        &[
            Step::Write {
                path: PATH,
                sample: samples::ADDED_LIBRARY,
                mode: 0o644,
            },
            Step::MapLibrary { path: PATH },
        ],
    ),
    source: include_str!("added_malicious_library_loaded.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::libraries(&SPEC, event, |found| found == Provenance::Added, out);
}
