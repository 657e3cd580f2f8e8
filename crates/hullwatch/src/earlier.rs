//! What the run before missed is over with it, and what still holds is found again. A sensor that is still lost, or a self-test
//! that still fails, for the same reason, was never well: its finding stays as it is, and nobody is told twice.

use detect::{Dispatcher, Settings, finding::Naming};
use model::{
    Timestamp,
    enriched::{EnrichedEvent, EnrichedPayload},
    event::SensorState,
    finding::State,
};
use store::Store;

/// Ends what is not known to hold before something is lost again. Before the sensors start.
pub(crate) fn end_losses(store: &Store, now: Timestamp) -> Result<(), store::Error> {
    end(store, "category=\"Events Dropped\"", &[], now)
}

/// Ends what was said of sensors, but for the findings with these ids. `now` is before the sensors started: what was said since
/// then stays too.
pub(crate) fn end_lost_sensors(
    store: &Store,
    lost: &[String],
    now: Timestamp,
) -> Result<(), store::Error> {
    const FILTER: &str =
        "source_properties.Sensor_Condition=\"LOST\" AND -source_properties.Sensor=\"agent\"";
    end(store, FILTER, lost, now)
}

/// Ends what was said of self-tests, but for the findings with these ids. When the first result of this run is there.
pub(crate) fn end_failed_tests(
    store: &Store,
    failed: &[String],
    now: Timestamp,
) -> Result<(), store::Error> {
    const FILTER: &str =
        "source_properties.Sensor_Condition=\"LOST\" AND source_properties.Sensor=\"agent\"";
    end(store, FILTER, failed, now)
}

/// Ids of the findings that the states of sensors give.
pub(crate) fn ids(states: &[SensorState], settings: &Settings, naming: &Naming) -> Vec<String> {
    let mut dispatcher = Dispatcher::new(settings);
    let events = states.iter().map(|state| EnrichedEvent {
        time: Timestamp::default(),
        container: None,
        process: None,
        payload: EnrichedPayload::SensorState(state.clone()),
    });
    events
        .flat_map(|event| dispatcher.on_event(&event))
        .map(|detection| detect::finding::id(&detection, naming))
        .collect()
}

fn end(store: &Store, filter: &str, but: &[String], now: Timestamp) -> Result<(), store::Error> {
    let filter = format!("state=\"ACTIVE\" AND findingClass=\"SCC_ERROR\" AND ({filter})");
    let ids = store.ids("", &filter)?;
    let mut rest = ids.as_slice();
    while !rest.is_empty() {
        let (mut found, taken) = store.findings(rest)?;
        found.retain(|result| !but.iter().any(|id| result.finding.name.ends_with(id)));
        for result in &mut found {
            result.finding.state = State::Inactive;
            result.finding.event_time = Some(now);
        }
        store.record(&found)?;
        rest = &rest[taken..];
    }
    Ok(())
}
