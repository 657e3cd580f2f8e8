//! A library was loaded whose hash threat intelligence knows, and whether it is part of the container image could not be told.
//!
//! ## Why it matters
//! It is as malicious as in the findings that say where it came from; only that answer is missing. Security Command Center
//! has no such type: Hullwatch adds it so that a known hash is never passed over.
//!
//! ## Evidence
//! A file was mapped as executable code and the SHA-256 of the whole file is on an intelligence list. The finding says why
//! there is no verdict.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known. When many of these appear, the reason they give is what to mend.
//!
//! ## Response
//! Treat the container as taken over, and compare the library with the image by hand to learn whether the image is bad as well.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EventKind},
    finding::{FindingClass, Severity},
    provenance::Provenance,
};

use crate::{
    attack, known, next_steps, samples,
    simulation::{Root, Simulation, Step},
    spec::{Spec, Stage},
};

const PATH: &str = "/tmp/libhullwatch-unknown.so";

pub(crate) static SPEC: Spec = Spec {
    id: "malicious_library_loaded",
    category: "Execution: Malicious Library Loaded",
    module_name: "HULLWATCH_MALICIOUS_LIBRARY_LOADED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(attack::LIBRARY),
    consumes: &[EventKind::LibraryLoad],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Compare the library with the image's own at the same path: equal bytes mean that the image is bad, other bytes that the container was taken over.",
        next_steps::OTHER_FINDINGS,
        next_steps::VIRUSTOTAL,
        next_steps::SETTINGS,
        next_steps::LOGS,
        next_steps::EVIDENCE,
        next_steps::REDEPLOY,
        next_steps::SECRETS,
    ],
    simulation: Simulation {
        root: Root::Plain,
        ..Simulation::in_overlay(
            "Maps a harmless library, whose hash the built-in list names, as code in a container whose root is a plain directory.",
            &[],
            &[
                Step::Write {
                    path: PATH,
                    sample: samples::UNKNOWN_LIBRARY,
                    mode: 0o644,
                },
                Step::MapLibrary { path: PATH },
            ],
        )
    },
    source: include_str!("malicious_library_loaded.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::libraries(
        &SPEC,
        event,
        |found| matches!(found, Provenance::Unknown(_)),
        out,
    );
}
