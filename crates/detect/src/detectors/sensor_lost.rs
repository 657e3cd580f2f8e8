//! A sensor stopped seeing, never saw, or did not see for a while.
//!
//! ## Why it matters
//! Without it, silence means nothing: an attacker's first wish is that the watcher is gone. Google's service does not tell
//! when its watcher has died; here it is a finding.
//!
//! ## Evidence
//! The sensor's own report: which sensor (eBPF, fanotify, perf, or the agent as a whole), whether it is lost or was blind for
//! a while, and why. After a crash, a restart or a freeze of the agent the gap is measured from its last heartbeat; when it was
//! stopped in order, the severity is low. A time in which findings could not be stored (a full disk) is told when it is over,
//! with the number of those that were lost. A detector that fails and is switched off is reported here as well. At start and
//! every ten minutes the agent runs a harmless program in an overlay of its own; when it does not see that one, it says so.
//!
//! A sensor that sees again, after a new start of the agent too, makes its finding INACTIVE; what is lost again makes
//! it ACTIVE, and is announced. A time that is over (a gap, a stop) is a finding of its own each time.
//!
//! ## Blind spots and false positives
//! A program on a FUSE or network filesystem whose server does not answer holds up the sensor for all containers: told after
//! ten seconds, and over when the server answers or is gone.
//!
//! An agent that is killed cannot report at that moment; the gap is reported when it runs again. A server that collects
//! findings of many hosts should watch for hosts that fall silent.
//!
//! ## Response
//! Run `hullwatch doctor` on the host and mend what it names. Look at what was done on the host just before: killing the
//! watcher takes root. Containers that ran in the gap were not watched; consider replacing them.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EnrichedPayload, EventKind},
    event::{Sensor, SensorCondition},
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
    id: "sensor_lost",
    category: "Sensor Lost",
    module_name: "HULLWATCH_SENSOR_LOST",
    severity: Severity::High,
    finding_class: FindingClass::SccError,
    attack: None,
    consumes: &[EventKind::SensorState],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Run `hullwatch doctor` on the host: it says what the sensors need and what is missing.",
        "Find out why the sensor stopped: the agent's log, the kernel's log, who was root on the host at the time.",
        "Containers that ran meanwhile were not watched, or only in part. Replace those that matter.",
    ],
    simulation: Simulation {
        watcher_paused_s: Some(15),
        ..Simulation::in_overlay(
            "Freezes the running watcher for fifteen seconds while programs run in a container.",
            &[ImageFile {
                path: PATH,
                content: ImageContent::Sample(samples::ORDINARY_PROGRAM),
                mode: 0o755,
            }],
            &[Step::RunTimes {
                program: PATH,
                times: 100,
            }],
        )
    },
    source: include_str!("sensor_lost.rs"),
    build: || Box::new(on_event),
};

fn on_event(event: &EnrichedEvent, out: &mut Vec<Detection>) {
    let EnrichedPayload::SensorState(state) = &event.payload else {
        return;
    };
    let (kind, word) = match state.condition {
        SensorCondition::Running => return,
        SensorCondition::Lost => ("LOST", "does not see"),
        SensorCondition::Recovered => ("LOST", "sees again, what it said before is over"),
        SensorCondition::Gap => ("GAP", "did not see for a while"),
        SensorCondition::Stopped => ("STOPPED", "was stopped for a while"),
        SensorCondition::Unstored => ("UNSTORED", "could not store for a while"),
    };
    let sensor = match state.sensor {
        Sensor::Ebpf => "eBPF sensor (programs that start)",
        Sensor::Fanotify => "fanotify sensor (bytes of programs)",
        Sensor::Perf => "perf sensor (library loads)",
        Sensor::Agent => "agent",
    };
    out.push(Detection {
        detector: SPEC.id,
        event: event.clone(),
        description: format!(
            "The {sensor} {word}: {}.",
            model::text::escape_terminal(&state.detail)
        ),
        // Two detectors that fail are two facts, and so are two gaps, whose words have their time.
        identity: vec![
            name_of(&state.sensor),
            kind.to_owned(),
            state.detail.clone(),
        ],
        files: Vec::new(),
        // An update or a restart, most of the time; what ran meanwhile was not watched all the same.
        severity: (state.condition == SensorCondition::Stopped).then_some(Severity::Low),
        properties: vec![
            ("Sensor", name_of(&state.sensor).into()),
            ("Sensor_Condition", kind.into()),
        ],
    });
}
