//! Events were lost between the kernel and the detectors.
//!
//! ## Why it matters
//! A flood of harmless events is a way to hide one that matters. What was lost cannot be judged, so it must at least be counted
//! and shown.
//!
//! ## Evidence
//! The count and the place: the ring buffer of program starts or of process ends, the buffer of library loads, fanotify's
//! queue (each overflow counts once and hides an unknown number of files), the agent's own queue, or a record that could not be
//! decoded. Each place has one finding; it is updated while the loss goes on.
//!
//! ## Blind spots and false positives
//! Heavy builds on a small machine lose events too. The buffers' sizes are fixed bounds, chosen so that the machine's full rate
//! of program starts fits.
//!
//! ## Response
//! See what ran at that time: the container with the most findings or the highest load. Give the agent more CPU if the load is
//! wanted.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EnrichedPayload, EventKind},
    event::LossSource,
    finding::{FindingClass, Severity},
};

use crate::{
    docs::name_of,
    samples,
    simulation::{ImageContent, ImageFile, Simulation, Step},
    spec::{Spec, Stage},
};

const PATH: &str = "/usr/bin/hullwatch-ordinary";

pub(crate) static SPEC: Spec = Spec {
    id: "events_dropped",
    category: "Events Dropped",
    module_name: "HULLWATCH_EVENTS_DROPPED",
    severity: Severity::Medium,
    finding_class: FindingClass::SccError,
    attack: None,
    consumes: &[EventKind::Loss],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Find what flooded the sensor: containers that started very many programs at that time.",
        "Treat findings of that time as incomplete: what was lost was judged by nobody.",
        "If the load is wanted, give the agent more CPU time or a machine of its own.",
    ],
    simulation: Simulation {
        watcher_paused_s: Some(1),
        ..Simulation::in_overlay(
            "Freezes the running watcher while a container starts so many programs that the kernel's buffer overflows.",
            &[ImageFile {
                path: PATH,
                content: ImageContent::Sample(samples::ORDINARY_PROGRAM),
                mode: 0o755,
            }],
            &[Step::RunTimes {
                program: PATH,
                times: 60_000,
            }],
        )
    },
    source: include_str!("events_dropped.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    let EnrichedPayload::Loss(loss) = &event.payload else {
        return;
    };
    let place = match loss.source {
        LossSource::ExecRing => "the kernel's buffer of program starts",
        LossSource::ProcessRing => "the kernel's buffer of process starts and ends",
        LossSource::LibraryBuffer => "the kernel's buffer of library loads",
        LossSource::Fanotify => "fanotify's queue of executed files (each overflow counts once)",
        LossSource::Queue => "the agent's own queue",
        LossSource::Decode => "decoding (records that made no sense)",
    };
    out.push(Detection {
        detector: SPEC.id,
        event: event.clone(),
        description: format!("{} events were lost in {place}.", loss.count),
        identity: vec![name_of(&loss.source)],
        files: Vec::new(),
        severity: None,
        properties: vec![
            ("Lost_Events", loss.count.into()),
            ("Lost_In", name_of(&loss.source).into()),
        ],
    });
}
