//! A program ran that is not part of the container image, or was changed since the image was built.
//!
//! ## Why it matters
//! Containers are meant to run what their image holds and nothing else. Whatever else runs is drift: an update done by hand, a
//! download at start-up, or an attacker's tool that no list knows yet.
//!
//! ## Evidence
//! The image ships no file at the program's path, or one with other bytes (`sourceProperties.Added_Binary_Kind` says which:
//! `Added` or `Modified`). Scripts that are run as files count. A file whose hash is known raises the finding for malicious
//! binaries instead.
//!
//! ## Blind spots and false positives
//! Off by default, as in Security Command Center: package managers, compilers, language runtimes that unpack programs, and
//! everything on a volume raise it. What could not be judged raises nothing here.
//!
//! ## Response
//! Find out who put the program there. If it is wanted, make it part of the image; if not, treat the container as taken over.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EventKind, File},
    finding::{FindingClass, Severity},
    provenance::Provenance,
};

use crate::{
    attack, known, next_steps, samples,
    simulation::{Simulation, Step},
    spec::{Spec, Stage},
};

const PATH: &str = "/tmp/hullwatch-unlisted";

pub(crate) static SPEC: Spec = Spec {
    id: "added_binary_executed",
    category: "Added Binary Executed",
    module_name: "CLOUD_RUN_ADDED_BINARY_EXECUTED",
    severity: Severity::Low,
    finding_class: FindingClass::Threat,
    attack: Some(attack::PROGRAM),
    consumes: &[EventKind::Exec, EventKind::ScriptRun],
    enabled_by_default: false,
    stage: Stage::Stable,
    next_steps: &[
        "Find out what put the file there: the process's ancestors, the container's command, its logs.",
        next_steps::VIRUSTOTAL,
        next_steps::OTHER_FINDINGS,
        "If the program is wanted, make it part of the image and deploy that; do not change containers after they start.",
    ],
    simulation: Simulation::in_overlay(
        "Writes a harmless program that no list names to a path that the image does not have, and runs it.",
        &[],
        &[
            Step::Write {
                path: PATH,
                sample: samples::UNLISTED_PROGRAM,
                mode: 0o755,
            },
            Step::Run {
                program: PATH,
                args: &[],
                env: &[],
            },
        ],
    ),
    source: include_str!("added_binary_executed.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    for (role, file) in known::executed(event) {
        if let Some(kind) = drift(file) {
            let mut detection = known::detection(&SPEC, event, role, file, String::new());
            detection
                .properties
                .push(("Added_Binary_Kind", kind.into()));
            out.push(detection);
        }
    }
}

/// SCC's word for a file that differs from the image. `None` for one that does not, or that a list names.
pub(crate) fn drift(file: &File) -> Option<&'static str> {
    match file.provenance {
        _ if !file.matches.is_empty() => None,
        Provenance::Added => Some("Added"),
        Provenance::Modified => Some("Modified"),
        Provenance::BuiltIn | Provenance::Unknown(_) => None,
    }
}
