//! A program ran that is not part of the container image, and threat intelligence knows its hash.
//!
//! ## Why it matters
//! Images are built once and run unchanged. A program that appears later was brought in by whoever controls the running
//! container, and this one is known to be malicious: the usual second step after a break-in is to fetch a tool and start it.
//!
//! ## Evidence
//! The SHA-256 of the whole file that the kernel ran is on an intelligence list, and the image ships no file at that path.
//! The finding names the list, its entry and date, and says when the bytes are a renamed or copied file of the image, or when
//! the file is on another mount, in memory only, or deleted. A script counts as a program: `processes[0].binary` is then the
//! interpreter and `processes[0].script` the script.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known; a changed byte makes another hash. A script is found when it is run as a file,
//! named in an interpreter's arguments, or the file that is its standard input. What an interpreter reads besides is not
//! looked at: text that is piped into it or given as an argument (`-c`), files that a script reads with `.` or `source` or
//! imports, and those that a variable names (`BASH_ENV`, `ENV`, `PYTHONSTARTUP`).
//! A script that deletes itself is opened before the interpreter's first instruction when it is the standard input or one of the
//! first five arguments that are no options. Another one may be gone by the time that it is looked for; that is counted as a file
//! that could not be hashed. Who has another file in its place for just the moment in which the interpreter opens it is not seen
//! through; one that stays there is told of, also when the interpreter had opened the first one by then.
//! Behind an option of an interpreter, a known file among the first arguments is taken for its script, also when the script
//! only reads it. A list that names a tool you use yourself raises this finding rightly by its letter; remove the entry from
//! the list.
//!
//! ## Response
//! Treat the container as taken over. Save the file and the container's writable layer, then replace the container, and look
//! for the way in: the process's ancestors show which service started it.

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

const PATH: &str = "/tmp/hullwatch-added";

pub(crate) static SPEC: Spec = Spec {
    id: "added_malicious_binary_executed",
    category: "Execution: Added Malicious Binary Executed",
    module_name: "CLOUD_RUN_ADDED_MALICIOUS_BINARY_EXECUTED",
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
        "Writes a harmless program, whose hash the built-in list names, to a path that the image does not have, and runs it.",
        &[],
        &[
            Step::Write {
                path: PATH,
                sample: samples::ADDED_PROGRAM,
                mode: 0o755,
            },
            Step::Run {
                program: PATH,
                args: &[],
                env: &[],
            },
        ],
    ),
    source: include_str!("added_malicious_binary_executed.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::programs(&SPEC, event, |found| found == Provenance::Added, out);
}
