//! A container runs that Hullwatch cannot watch, or can watch only in part.
//!
//! ## Why it matters
//! No findings from such a container does not mean that nothing happened in it.
//!
//! ## Evidence
//! What is not seen, in a sentence: that no copy of the image was found to compare with, so that programs cannot be told apart
//! as built in, modified or added.
//!
//! ## Blind spots and false positives
//! Reported once per container and kind of gap. A container that ends before it is looked at may not be reported.
//!
//! ## Response
//! Run it on an engine and a storage driver that are covered (overlay), or accept the gap knowingly and mute this finding for
//! that container.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EnrichedPayload, EventKind},
    finding::{FindingClass, Severity},
};

use crate::{
    simulation::{Root, Simulation, Step},
    spec::{Spec, Stage},
};

pub(crate) static SPEC: Spec = Spec {
    id: "container_not_covered",
    category: "Container Not Covered",
    module_name: "HULLWATCH_CONTAINER_NOT_COVERED",
    severity: Severity::Medium,
    finding_class: FindingClass::SccError,
    attack: None,
    consumes: &[EventKind::NotCovered],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Read what is not seen, and whether it matters for this container.",
        "Move the container to an engine and a storage driver that are covered (overlay), or give the agent access to its image.",
        "If the gap is accepted, mute this finding for the container.",
    ],
    simulation: Simulation {
        root: Root::Plain,
        ..Simulation::in_overlay(
            "Runs a program of the image in a container whose root is a plain directory.",
            &[],
            &[Step::Run {
                program: "/bin/cat",
                args: &["/dev/null"],
                env: &[],
            }],
        )
    },
    source: include_str!("container_not_covered.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    let EnrichedPayload::NotCovered { what } = &event.payload else {
        return;
    };
    out.push(Detection {
        detector: SPEC.id,
        event: event.clone(),
        description: model::text::escape_terminal(what),
        identity: vec![what.clone()],
        files: Vec::new(),
        severity: None,
        properties: Vec::new(),
    });
}
