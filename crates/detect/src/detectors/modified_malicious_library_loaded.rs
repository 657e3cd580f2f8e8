//! A library of the container image was changed after the container started, then loaded, and threat intelligence knows its hash.
//!
//! ## Why it matters
//! Every program that uses the library now runs an attacker's code under its own name. Whoever did this controls the running
//! container and chose to hide in it.
//!
//! ## Evidence
//! A file was mapped as executable code; the SHA-256 of the whole file is on an intelligence list, and the image ships a file
//! at that path with other bytes. Both hashes are in the finding. `processes[0].binary` is the program that loaded it,
//! `processes[0].libraries` the library.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known. A library that is changed while it is mapped is judged when it is next loaded.
//! Before Linux 6.14, what is written to it through a mapping that stays open can go unseen until the kernel has written it to
//! disk, half a minute later.
//!
//! ## Response
//! Treat the container and every program in it as taken over. Compare the library with the image's, replace the container, and
//! look for the way in.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EventKind},
    finding::{FindingClass, Severity},
    provenance::Provenance,
};

use crate::{
    attack, known, next_steps, samples,
    simulation::{ImageContent, ImageFile, Simulation, Step},
    spec::{Spec, Stage},
};

const PATH: &str = "/usr/lib/libhullwatch-modified.so";

pub(crate) static SPEC: Spec = Spec {
    id: "modified_malicious_library_loaded",
    category: "Execution: Modified Malicious Library Loaded",
    module_name: "CLOUD_RUN_MODIFIED_MALICIOUS_LIBRARY_LOADED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(attack::LIBRARY),
    consumes: &[EventKind::LibraryLoad],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        next_steps::OTHER_FINDINGS,
        next_steps::VIRUSTOTAL,
        "Find every program of the container that uses the library: each of them ran its code.",
        next_steps::SETTINGS,
        next_steps::LOGS,
        next_steps::EVIDENCE,
        next_steps::REDEPLOY,
        next_steps::SECRETS,
    ],
    simulation: Simulation::in_overlay(
        "Replaces a library of the image by a harmless one, whose hash the built-in list names, and maps it as code.",
        &[ImageFile {
            path: PATH,
            content: ImageContent::Sample(samples::ORDINARY_LIBRARY),
            mode: 0o644,
        }],
        &[
            Step::Replace {
                path: PATH,
                sample: samples::MODIFIED_LIBRARY,
                mode: 0o644,
            },
            Step::MapLibrary { path: PATH },
        ],
    ),
    source: include_str!("modified_malicious_library_loaded.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::libraries(&SPEC, event, |found| found == Provenance::Modified, out);
}
