//! A program ran that the container image ships, and threat intelligence knows its hash.
//!
//! ## Why it matters
//! Nobody brought it in later: it was there when the image was built. The build pipeline, a base image, a package or the
//! registry is where the attacker is, and every container of that image has the program.
//!
//! ## Evidence
//! The SHA-256 of the whole file that the kernel ran is on an intelligence list, and equals that of the image's own file at
//! that path. The finding names the layer that ships it. A script counts as a program: `processes[0].binary` is then the
//! interpreter and `processes[0].script` the script.
//!
//! ## Blind spots and false positives
//! Only hashes on the imported lists are known, and only what runs is looked at; a malicious file of the image that nothing
//! starts raises nothing. Security tools that are part of an image on purpose may be on a list. Which scripts are found, and
//! which are not, is on the page of `added_malicious_binary_executed`.
//!
//! ## Response
//! Stop using the image, not only this container. Find the layer and the build step that brought the file in, rebuild from
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

const PATH: &str = "/usr/bin/hullwatch-built-in";

pub(crate) static SPEC: Spec = Spec {
    id: "built_in_malicious_binary_executed",
    category: "Execution: Built in Malicious Binary Executed",
    module_name: "CLOUD_RUN_BUILT_IN_MALICIOUS_BINARY_EXECUTED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(attack::PROGRAM),
    consumes: &[EventKind::Exec, EventKind::ScriptRun],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Stop deploying the image and freeze its tag: every container made from it has this program.",
        "Find the layer (it is named in this finding) and the build step that brought the file into the image.",
        next_steps::VIRUSTOTAL,
        next_steps::OTHER_FINDINGS,
        next_steps::SETTINGS,
        next_steps::LOGS,
        "Rebuild the image from clean sources, and rotate the credentials of the registry and of the build pipeline.",
        next_steps::SECRETS,
    ],
    simulation: Simulation::in_overlay(
        "Runs a harmless program of the image, whose hash the built-in list names.",
        &[ImageFile {
            path: PATH,
            content: ImageContent::Sample(samples::BUILT_IN_PROGRAM),
            mode: 0o755,
        }],
        &[Step::Run {
            program: PATH,
            args: &[],
            env: &[],
        }],
    ),
    source: include_str!("built_in_malicious_binary_executed.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    known::programs(&SPEC, event, |found| found == Provenance::BuiltIn, out);
}
