//! Hands each event to the detectors that asked for its kind.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::{
    Timestamp,
    detection::Detection,
    enriched::{EnrichedEvent, EnrichedPayload},
    event::{Sensor, SensorCondition, SensorState},
};

use crate::{
    catalogue::CATALOGUE,
    settings::Settings,
    spec::{Detector, Spec},
};

/// Runs the detectors that the settings leave on.
pub struct Dispatcher {
    detectors: Vec<Running>,
}

struct Running {
    spec: &'static Spec,
    detector: Box<dyn Detector>,
}

impl Dispatcher {
    /// All detectors of the catalogue that `settings` leave on.
    pub fn new(settings: &Settings) -> Self {
        Self::of(CATALOGUE, settings)
    }

    fn of(catalogue: &[&'static Spec], settings: &Settings) -> Self {
        Self {
            detectors: catalogue
                .iter()
                .filter(|spec| settings.is_enabled(spec))
                .map(|&spec| Running {
                    spec,
                    detector: (spec.build)(),
                })
                .collect(),
        }
    }

    /// What the detectors find in one event, in the order of the catalogue.
    ///
    /// A detector that panics is switched off for good, which is reported the way a lost sensor is: the others live on, and
    /// the blind spot is a finding.
    pub fn on_event(&mut self, event: &EnrichedEvent) -> Vec<Detection> {
        let mut out = Vec::new();
        for failed in self.judge(event, &mut out) {
            let report = failure(failed, event.time);
            // Should the one who reports fail too, there is nobody left to tell.
            self.judge(&report, &mut out);
        }
        out
    }

    /// Detectors that run.
    pub fn running(&self) -> impl Iterator<Item = &'static Spec> {
        self.detectors.iter().map(|running| running.spec)
    }

    /// Returns the ids of the detectors that failed; they are gone.
    fn judge(&mut self, event: &EnrichedEvent, out: &mut Vec<Detection>) -> Vec<&'static str> {
        let kind = event.payload.kind();
        let mut failed = Vec::new();
        for running in &mut self.detectors {
            if !running.spec.consumes.contains(&kind) {
                continue;
            }
            let before = out.len();
            // A detector that panicked is dropped below, so whatever state it broke is never seen again.
            let judged = catch_unwind(AssertUnwindSafe(|| {
                running.detector.on_event(event, out);
            }));
            if judged.is_err() {
                out.truncate(before);
                failed.push(running.spec.id);
            }
        }
        if !failed.is_empty() {
            self.detectors
                .retain(|running| !failed.contains(&running.spec.id));
        }
        failed
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.running().map(|spec| spec.id))
            .finish()
    }
}

fn failure(detector: &str, time: Timestamp) -> EnrichedEvent {
    EnrichedEvent {
        time,
        container: None,
        process: None,
        payload: EnrichedPayload::SensorState(SensorState {
            sensor: Sensor::Agent,
            condition: SensorCondition::Lost,
            detail: format!("the detector {detector} failed and was switched off"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    fn event() -> EnrichedEvent {
        EnrichedEvent {
            time: Timestamp::default(),
            container: None,
            process: None,
            payload: EnrichedPayload::Exec,
        }
    }

    /// A declaration like that of `like`, with another id and other logic.
    fn spec(like: &str, id: &'static str, build: fn() -> Box<dyn Detector>) -> &'static Spec {
        let like = catalogue::find(like).unwrap();
        Box::leak(Box::new(Spec { id, build, ..*like }))
    }

    fn fails(_: &EnrichedEvent, _: &mut Vec<Detection>) {
        panic!("a detector's bug");
    }

    #[test]
    fn a_detector_that_panics_is_switched_off_and_reported_and_the_others_live_on() {
        let broken = spec("added_malicious_binary_executed", "broken", || {
            Box::new(fails)
        });
        let catalogue: Vec<&Spec> = std::iter::once(broken)
            .chain(CATALOGUE.iter().copied())
            .collect();
        let mut dispatcher = Dispatcher::of(&catalogue, &Settings::default());
        let out = dispatcher.on_event(&event());
        let [report] = out.as_slice() else {
            panic!("{out:?}");
        };
        assert_eq!(report.detector, "sensor_lost");
        assert!(report.description.contains("broken"), "{report:?}");
        assert!(dispatcher.running().all(|spec| spec.id != "broken"));
        assert!(dispatcher.running().count() > 5);
        assert_eq!(dispatcher.on_event(&event()), []);
    }

    #[test]
    fn nobody_is_left_to_report_and_nothing_breaks() {
        let broken = spec("sensor_lost", "broken_reporter", || Box::new(fails));
        let mut dispatcher = Dispatcher::of(&[broken], &Settings::default());
        let lost = failure("another", Timestamp::default());
        assert_eq!(dispatcher.on_event(&lost), []);
        assert_eq!(dispatcher.running().count(), 0);
    }
}
