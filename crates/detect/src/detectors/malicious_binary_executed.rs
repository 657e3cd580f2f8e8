//! A program ran whose hash threat intelligence knows, and whether it is part of the container image could not be told.
//!
//! ## Why it matters
//! It is as malicious as in the findings that say where it came from; only that answer is missing. Security Command Center
//! has no such type: Hullwatch adds it so that a known hash is never passed over.
//!
//! ## Evidence
//! The SHA-256 of the whole file that the kernel ran is on an intelligence list. The finding says why there is no verdict:
//! for example the container's root is no overlay and no copy of its image was found, or the container ended too soon.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known. When many of these appear, the reason they give is what to mend. Which scripts
//! are found, and which are not, is on the page of `added_malicious_binary_executed`.
//!
//! ## Response
//! Treat the container as taken over, and compare the file with the image by hand to learn whether the image is bad as well.

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

const PATH: &str = "/tmp/hullwatch-unknown";

pub(crate) static SPEC: Spec = Spec {
    id: "malicious_binary_executed",
    category: "Execution: Malicious Binary Executed",
    module_name: "HULLWATCH_MALICIOUS_BINARY_EXECUTED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(attack::PROGRAM),
    consumes: &[EventKind::Exec, EventKind::ScriptRun],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Compare the file with the image's own at the same path: equal bytes mean that the image is bad, other bytes that the container was taken over.",
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
            "Runs a harmless program, whose hash the built-in list names, in a container whose root is a plain directory.",
            &[],
            &[
                Step::Write {
                    path: PATH,
                    sample: samples::UNKNOWN_PROGRAM,
                    mode: 0o755,
                },
                Step::Run {
                    program: PATH,
                    args: &[],
                    env: &[],
                },
            ],
        )
    },
    source: include_str!("malicious_binary_executed.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::programs(
        &SPEC,
        event,
        |found| matches!(found, Provenance::Unknown(_)),
        out,
    );
}
