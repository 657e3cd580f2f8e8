//! Where the watch itself failed: sensors, losses, containers that are not covered.

use std::sync::Arc;

use model::{
    enriched::{EnrichedEvent, EnrichedPayload},
    event::{Loss, LossSource, Sensor, SensorCondition, SensorState},
    provenance::MissingReason,
};

use super::{START, Scenario, container, exec, scenario, shell};

pub(super) fn all() -> Vec<Scenario> {
    let lost = |source| {
        about_agent(EnrichedPayload::Loss(Loss {
            source,
            count: 12_345,
        }))
    };
    let of_container = |payload| EnrichedEvent {
        container: Some(Arc::new(container())),
        ..about_agent(payload)
    };
    let not_covered = EnrichedEvent {
        container: Some(Arc::new(container())),
        ..about_agent(EnrichedPayload::NotCovered {
            what: "Container web-1 has its root on ext4, not on an overlay, and no copy of its image was found.".to_owned(),
        })
    };
    vec![
        scenario(
            "sensor_lost",
            "fires_lost_and_gap",
            "a sensor that failed, and an agent that was frozen",
            vec![
                sensor(
                    Sensor::Fanotify,
                    SensorCondition::Lost,
                    "fanotify_init failed: operation not permitted",
                ),
                sensor(
                    Sensor::Agent,
                    SensorCondition::Gap,
                    "nothing was seen for 15 s",
                ),
            ],
        ),
        scenario(
            "sensor_lost",
            "quiet_running",
            "a sensor that started",
            vec![sensor(Sensor::Ebpf, SensorCondition::Running, "attached")],
        ),
        scenario(
            "events_dropped",
            "fires_each_place",
            "losses in two places, one of them twice",
            vec![
                lost(LossSource::ExecRing),
                lost(LossSource::Fanotify),
                lost(LossSource::ExecRing),
            ],
        ),
        scenario(
            "events_dropped",
            "fires_of_a_container",
            "what was not judged of one container",
            vec![
                of_container(EnrichedPayload::Unhashed {
                    files: [(MissingReason::Overload, 7), (MissingReason::TooLarge, 2)].into(),
                }),
                of_container(EnrichedPayload::Loss(Loss {
                    source: LossSource::UnknownProcess,
                    count: 3,
                })),
            ],
        ),
        scenario(
            "events_dropped",
            "fires_once",
            "one of each",
            vec![
                of_container(EnrichedPayload::Unhashed {
                    files: [(MissingReason::NotWatched, 1)].into(),
                }),
                of_container(EnrichedPayload::Loss(Loss {
                    source: LossSource::UnknownProcess,
                    count: 1,
                })),
            ],
        ),
        scenario(
            "events_dropped",
            "quiet_nothing_lost",
            "an ordinary program",
            vec![exec(shell(), &["sh"])],
        ),
        scenario(
            "container_not_covered",
            "fires_plain_root",
            "a container on a plain directory",
            vec![not_covered],
        ),
        scenario(
            "container_not_covered",
            "quiet_covered",
            "an ordinary program",
            vec![exec(shell(), &["sh"])],
        ),
    ]
}

fn about_agent(payload: EnrichedPayload) -> EnrichedEvent {
    EnrichedEvent {
        time: START,
        container: None,
        process: None,
        payload,
    }
}

fn sensor(sensor: Sensor, condition: SensorCondition, detail: &str) -> EnrichedEvent {
    about_agent(EnrichedPayload::SensorState(SensorState {
        sensor,
        condition,
        detail: detail.to_owned(),
    }))
}
