//! A library was loaded that the container image ships, and threat intelligence knows its hash.
//!
//! ## Why it matters
//! Nobody brought it in later: it was there when the image was built, as a poisoned dependency is. The build pipeline, a base
//! image, a package or the registry is where the attacker is. Security Command Center has no such type for libraries;
//! Hullwatch adds it so that a known hash is never passed over.
//!
//! ## Evidence
//! A file was mapped as executable code; the SHA-256 of the whole file is on an intelligence list and equals that of the
//! image's own file at that path. The finding names the layer that ships it.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known, and only what is loaded is looked at.
//!
//! ## Response
//! Stop using the image, not only this container. Find the layer and the build step that brought the library in, rebuild from
//! clean sources, and rotate the credentials of the registry and the build.

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

const PATH: &str = "/usr/lib/libhullwatch-built-in.so";

pub(crate) static SPEC: Spec = Spec {
    id: "built_in_malicious_library_loaded",
    category: "Execution: Built in Malicious Library Loaded",
    module_name: "HULLWATCH_BUILT_IN_MALICIOUS_LIBRARY_LOADED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(attack::LIBRARY),
    consumes: &[EventKind::LibraryLoad],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Stop deploying the image and freeze its tag: every container made from it has this library.",
        "Find the layer (it is named in this finding) and the dependency or build step that brought the library into the image.",
        next_steps::VIRUSTOTAL,
        next_steps::OTHER_FINDINGS,
        next_steps::SETTINGS,
        next_steps::LOGS,
        "Rebuild the image from clean sources, and rotate the credentials of the registry and of the build pipeline.",
        next_steps::SECRETS,
    ],
    simulation: Simulation::in_overlay(
        "Maps a harmless library of the image, whose hash the built-in list names, as code.",
        &[ImageFile {
            path: PATH,
            content: ImageContent::Sample(samples::BUILT_IN_LIBRARY),
            mode: 0o644,
        }],
        &[Step::MapLibrary { path: PATH }],
    ),
    source: include_str!("built_in_malicious_library_loaded.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::libraries(&SPEC, event, |found| found == Provenance::BuiltIn, out);
}
