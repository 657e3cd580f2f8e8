//! Events were lost between the kernel and the detectors, or files could not be hashed.
//!
//! ## Why it matters
//! A flood of harmless events is a way to hide one that matters. What was lost cannot be judged, so it must at least be counted
//! and shown.
//!
//! ## Evidence
//! The count and the place: the ring buffer of program starts or of process ends, the buffer of library loads, fanotify's
//! queue (each overflow counts once and hides an unknown number of files), the agent's own queue, a record that could not be
//! decoded, a library load whose process was not known (the file alone was judged, where it could be read), or a list of
//! indicators that could not be read. Each place has one finding, for each container where that is known; it is updated while
//! the loss goes on.
//!
//! Programs, scripts and libraries that ran in a container but could not be hashed have one finding for each container, with
//! their number and the reasons: no list of indicators was asked about them.
//!
//! When nothing was lost in that place for ten minutes, or the agent starts anew, the finding becomes INACTIVE. The next loss
//! makes it ACTIVE, and is announced.
//!
//! ## Blind spots and false positives
//! Heavy builds on a small machine lose events too. The buffers' sizes are fixed bounds, chosen so that the machine's full rate
//! of program starts fits. The count is that of the last second in which something was lost.
//!
//! A library is not counted when its process, and the container with it, ended before the file could be looked at, and the
//! image ships a file at its path: that happens to the last process of every container. Its program was hashed. A file that was
//! changed (`chmod` is enough) after it was used and before it was read is counted, unless it was the image's own until then;
//! the lists were asked about the bytes that it has now.
//!
//! ## Response
//! See what ran at that time: the container with the most findings or the highest load. Give the agent more CPU if the load is
//! wanted.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EnrichedPayload, EventKind},
    event::LossSource,
    finding::{FindingClass, LOST_EVENTS, Severity},
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
    let container = event
        .container
        .as_ref()
        .map(|container| model::text::escape_terminal(&container.name));
    // Found again, the count in the description is that of the last time.
    let (count, place, description) = match &event.payload {
        EnrichedPayload::Loss(loss) => {
            let of = container.map_or(String::new(), |name| format!(" of container {name}"));
            let events = by_count(loss.count, "event", "events");
            let were = by_count(loss.count, "was", "were");
            let fate = fate(loss.source);
            let description = match loss.count {
                0 => format!("No more events{of} were {fate}."),
                count => format!("{count} {events}{of} {were} {fate}."),
            };
            (loss.count, name_of(&loss.source), description)
        }
        EnrichedPayload::Unhashed { files } => {
            let count = files.values().sum();
            let reasons: Vec<String> = files
                .iter()
                .map(|(reason, count)| format!("{count} since {}", reason.text()))
                .collect();
            let of = container.map_or(String::new(), |name| format!(" in container {name}"));
            let files = by_count(count, "file", "files");
            let were = by_count(count, "was", "were");
            let description = match count {
                0 => format!("No more files that ran or were loaded{of} could not be hashed."),
                _ => format!(
                    "{count} {files} that ran or {were} loaded{of} could not be hashed: {}.",
                    reasons.join(", ")
                ),
            };
            (count, "unhashed".to_owned(), description)
        }
        _ => return,
    };
    out.push(Detection {
        detector: SPEC.id,
        event: event.clone(),
        description,
        identity: vec![place.clone()],
        files: Vec::new(),
        severity: None,
        properties: vec![(LOST_EVENTS, count.into()), ("Lost_In", place.into())],
    });
}

fn by_count(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// What was done to an event that met it.
fn fate(source: LossSource) -> &'static str {
    match source {
        LossSource::ExecRing => "lost in the kernel's buffer of program starts",
        LossSource::ProcessRing => "lost in the kernel's buffer of process starts and ends",
        LossSource::LibraryBuffer => "lost in the kernel's buffer of library loads",
        LossSource::Fanotify => {
            "lost in fanotify's queue of executed files (each overflow counts once)"
        }
        LossSource::Queue => {
            "judged without what there was to wait for, since the agent's own queue was full"
        }
        LossSource::UnknownProcess => {
            "judged by the file alone, where it could be read, since the process of the library load was not known"
        }
        LossSource::Indicators => "judged without a list of indicators that could not be read",
        LossSource::Decode => "lost in decoding (the record made no sense)",
    }
}
