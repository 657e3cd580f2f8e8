//! A program of the container image was changed after the container started, then run, and threat intelligence knows its hash.
//!
//! ## Why it matters
//! The name is one that the image's owner trusts and that other programs start by habit; the content is an attacker's. Whoever
//! did this controls the running container and chose to hide in it.
//!
//! ## Evidence
//! The SHA-256 of the whole file that the kernel ran is on an intelligence list, and the image ships a file at that path with
//! other bytes. Both hashes are in the finding. Content alone decides: a patch that keeps size and times, a replacement by
//! rename and a file deleted and made again are all seen; `chmod` or `touch` alone is no change. A script counts as a
//! program: `processes[0].binary` is then the interpreter and `processes[0].script` the script.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known. A mount that covers the image's file makes the file an added one. A package
//! manager that runs in the container changes programs too, but what it installs is on no such list. Which scripts are found,
//! and which are not, is on the page of `added_malicious_binary_executed`.
//!
//! ## Response
//! Treat the container as taken over. Compare the file with the image's, replace the container, and look for the way in.

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

const PATH: &str = "/usr/bin/hullwatch-modified";

pub(crate) static SPEC: Spec = Spec {
    id: "modified_malicious_binary_executed",
    category: "Execution: Modified Malicious Binary Executed",
    module_name: "CLOUD_RUN_MODIFIED_MALICIOUS_BINARY_EXECUTED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(attack::PROGRAM),
    consumes: &[EventKind::Exec, EventKind::ScriptRun],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        next_steps::OTHER_FINDINGS,
        next_steps::VIRUSTOTAL,
        next_steps::SETTINGS,
        next_steps::LOGS,
        next_steps::EVIDENCE,
        next_steps::REDEPLOY,
        next_steps::SECRETS,
    ],
    simulation: Simulation::in_overlay(
        "Overwrites a program of the image in place with a harmless one, whose hash the built-in list names, and runs it.",
        &[ImageFile {
            path: PATH,
            content: ImageContent::Sample(samples::ORDINARY_PROGRAM),
            mode: 0o755,
        }],
        &[
            Step::Write {
                path: PATH,
                sample: samples::MODIFIED_PROGRAM,
                mode: 0o755,
            },
            Step::Run {
                program: PATH,
                args: &[],
                env: &[],
            },
        ],
    ),
    source: include_str!("modified_malicious_binary_executed.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::programs(&SPEC, event, |found| found == Provenance::Modified, out);
}
