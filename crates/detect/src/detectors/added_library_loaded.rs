//! A library was loaded that is not part of the container image, or was changed since the image was built.
//!
//! ## Why it matters
//! Containers are meant to run what their image holds and nothing else. A library that comes later is drift: a plug-in
//! installed at start-up, or an attacker's code that no list knows yet.
//!
//! ## Evidence
//! A file was mapped as executable code, and the image ships no file at its path, or one with other bytes
//! (`sourceProperties.Added_Library_Kind` says which: `Added` or `Modified`). A file whose hash is known raises the finding
//! for malicious libraries instead.
//!
//! ## Blind spots and false positives
//! Off by default, as in Security Command Center: package managers, language runtimes that unpack native code, and everything
//! on a volume raise it. What could not be judged raises nothing here.
//!
//! ## Response
//! Find out who put the library there. If it is wanted, make it part of the image; if not, treat the container as taken over.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EventKind},
    finding::{FindingClass, Severity},
};

use super::added_binary_executed::drift;
use crate::{
    attack,
    known::{self, Role},
    next_steps, samples,
    simulation::{Simulation, Step},
    spec::{Spec, Stage},
};

const PATH: &str = "/tmp/libhullwatch-unlisted.so";

pub(crate) static SPEC: Spec = Spec {
    id: "added_library_loaded",
    category: "Added Library Loaded",
    module_name: "CLOUD_RUN_ADDED_LIBRARY_LOADED",
    severity: Severity::Low,
    finding_class: FindingClass::Threat,
    attack: Some(attack::LIBRARY),
    consumes: &[EventKind::LibraryLoad],
    enabled_by_default: false,
    stage: Stage::Stable,
    next_steps: &[
        "Find out what put the library there, and why the program loads it: its environment, its plug-in settings, the container's logs.",
        next_steps::VIRUSTOTAL,
        next_steps::OTHER_FINDINGS,
        "If the library is wanted, make it part of the image and deploy that; do not change containers after they start.",
    ],
    simulation: Simulation::in_overlay(
        "Writes a harmless library that no list names to a path that the image does not have, and maps it as code.",
        &[],
        &[
            Step::Write {
                path: PATH,
                sample: samples::UNLISTED_LIBRARY,
                mode: 0o644,
            },
            Step::MapLibrary { path: PATH },
        ],
    ),
    source: include_str!("added_library_loaded.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    if let Some(library) = known::loaded(event)
        && let Some(kind) = drift(library)
    {
        let mut detection = known::detection(&SPEC, event, Role::Library, library, String::new());
        detection.properties.extend([
            ("Added_Library_Kind", kind.into()),
            (
                "Added_Library_Fullpath",
                library.path.to_json_string().into(),
            ),
        ]);
        out.push(detection);
    }
}
