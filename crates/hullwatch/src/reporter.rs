//! From an enriched event to findings: the part of the pipeline that the agent and `replay` share.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use detect::{
    Dispatcher, Settings,
    finding::{Investigation, Naming, RecentFinding},
};
use lru::LruCache;
use model::{
    Text, Timestamp,
    detection::Detection,
    enriched::{Container, EnrichedEvent, EnrichedPayload},
    event::Loss,
    finding::{FindingResult, LOST_EVENTS},
    limits::CONTAINERS_MAX,
};
use serde_json::Value;

/// Other findings of a container that a finding names.
const RECENT_FINDINGS_MAX: usize = 20;

/// Facts whose repeats are counted at one time. Each may hold a process with its arguments and environment.
const REPEATED_MAX: usize = 1024;

/// Ends of containers' logs kept at a time.
const LOG_TAILS_MAX: usize = 16;

/// The end of a container's log is read this often at most: half a megabyte for each new fact would keep the agent from seeing.
const LOG_TAIL_INTERVAL: Duration = Duration::from_secs(1);

/// When nothing more was lost for as long, a loss is over.
const LOSS_OVER: Duration = Duration::from_secs(600);

/// A fact that happens again within this time of its last finding is only counted, until the time is over: a container that
/// runs a known program all the time must not keep the agent too busy to see another one.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Detectors, and what their detections need to become findings.
pub(crate) struct Reporter {
    dispatcher: Dispatcher,
    settings: Settings,
    naming: Naming,
    /// By container id, the newest last.
    recent: LruCache<String, VecDeque<RecentFinding>>,
    /// By container id, and when they were read.
    log_tails: LruCache<String, (Timestamp, Vec<Text>)>,
    /// By the finding's id.
    repeated: LruCache<String, Repeated>,
    /// Losses that are not over, by the finding's id: when the last was, and what is to be said when it is over.
    losses: LruCache<String, (Timestamp, EnrichedEvent)>,
    /// Some of them have been seen again since they were last gone through, which was then.
    has_repeats: bool,
    gone_through: Timestamp,
}

/// Each event that was lost is in exactly one count.
fn add_losses(detection: &mut Detection, counted: &Detection) {
    let count = |(key, value): &(&str, Value)| (*key == LOST_EVENTS).then(|| value.as_u64())?;
    let Some(before) = counted.properties.iter().find_map(count) else {
        return;
    };
    for (key, value) in &mut detection.properties {
        if *key == LOST_EVENTS {
            *value = value
                .as_u64()
                .unwrap_or_default()
                .saturating_add(before)
                .into();
        }
    }
}

/// That nothing more was lost where this was.
fn end_of_loss(event: &EnrichedEvent) -> Option<EnrichedEvent> {
    let payload = match &event.payload {
        payload if payload.is_end() => return None,
        EnrichedPayload::Loss(loss) => EnrichedPayload::Loss(Loss {
            count: 0,
            ..loss.clone()
        }),
        EnrichedPayload::Unhashed { .. } => EnrichedPayload::Unhashed {
            files: BTreeMap::new(),
        },
        _ => return None,
    };
    Some(EnrichedEvent {
        payload,
        ..event.clone()
    })
}

/// A fact that was found a moment ago.
struct Repeated {
    found: Timestamp,
    /// Times seen since, and the last of them.
    times: u64,
    latest: Option<Detection>,
}

impl Repeated {
    fn is_over(&self, now: Timestamp) -> bool {
        now.abs_diff(self.found) >= REPEAT_INTERVAL
    }
}

impl Reporter {
    pub(crate) fn new(settings: Settings, naming: Naming) -> Self {
        let size = |max| NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Self {
            dispatcher: Dispatcher::new(&settings),
            settings,
            naming,
            recent: LruCache::new(size(CONTAINERS_MAX)),
            log_tails: LruCache::new(size(LOG_TAILS_MAX)),
            repeated: LruCache::new(size(REPEATED_MAX)),
            losses: LruCache::new(size(REPEATED_MAX)),
            has_repeats: false,
            gone_through: Timestamp::default(),
        }
    }

    /// The findings that an event raises, without repeats of a moment ago. `log_tail` is asked for the container's last log
    /// lines when there is one.
    pub(crate) fn findings(
        &mut self,
        event: &EnrichedEvent,
        log_tail: impl Fn(&Container) -> Vec<Text>,
    ) -> Vec<FindingResult> {
        let mut findings = Vec::new();
        for detection in self.dispatcher.on_event(event) {
            let id = detect::finding::id(&detection, &self.naming);
            if let Some(end) = end_of_loss(&detection.event) {
                self.losses.put(id.clone(), (event.time, end));
            }
            let (mut times, mut detection) = (1, detection);
            if let Some(known) = self.repeated.get_mut(&id) {
                known.times += 1;
                if let Some(counted) = known.latest.take() {
                    add_losses(&mut detection, &counted);
                }
                if !known.is_over(event.time) {
                    known.latest = Some(detection);
                    self.has_repeats = true;
                    continue;
                }
                times = known.times;
            }
            let repeated = Repeated {
                found: event.time,
                times: 0,
                latest: None,
            };
            // The one that is forgotten for it may have been seen again.
            if let Some((old, forgotten)) = self.repeated.push(id.clone(), repeated)
                && old != id
                && let Some(latest) = forgotten.latest
            {
                findings.extend(self.build(&latest, forgotten.times, &log_tail));
            }
            findings.extend(self.build(&detection, times, &log_tail));
        }
        findings
    }

    /// Findings of losses that are over.
    pub(crate) fn ends_of_losses(
        &mut self,
        now: Timestamp,
        log_tail: impl Fn(&Container) -> Vec<Text>,
    ) -> Vec<FindingResult> {
        let mut findings = Vec::new();
        // The one that has not been met for longest comes first.
        while let Some((_, (last, _))) = self.losses.peek_lru()
            && now.abs_diff(*last) >= LOSS_OVER
            && let Some((_, (_, end))) = self.losses.pop_lru()
        {
            let end = EnrichedEvent { time: now, ..end };
            findings.extend(self.findings(&end, &log_tail));
        }
        findings
    }

    /// The repeats that were only counted and whose time is over; with `now` absent, all of them.
    pub(crate) fn repeats(
        &mut self,
        now: Option<Timestamp>,
        log_tail: impl Fn(&Container) -> Vec<Text>,
    ) -> Vec<FindingResult> {
        let is_soon = now.is_some_and(|now| now.abs_diff(self.gone_through) < REPEAT_INTERVAL / 10);
        if is_soon || !std::mem::take(&mut self.has_repeats) {
            return Vec::new();
        }
        self.gone_through = now.unwrap_or_default();
        let mut due = Vec::new();
        for (_, repeated) in &mut self.repeated {
            if repeated.latest.is_none() {
                continue;
            }
            if now.is_some_and(|now| !repeated.is_over(now)) {
                self.has_repeats = true;
                continue;
            }
            if let Some(latest) = repeated.latest.take() {
                repeated.found = latest.event.time;
                due.push((latest, std::mem::take(&mut repeated.times)));
            }
        }
        due.into_iter()
            .filter_map(|(detection, times)| self.build(&detection, times, &log_tail))
            .collect()
    }

    fn build(
        &mut self,
        detection: &Detection,
        times: u64,
        log_tail: &impl Fn(&Container) -> Vec<Text>,
    ) -> Option<FindingResult> {
        // Detections are made by detectors of the catalogue.
        let spec = detect::find(detection.detector)?;
        let container = detection.event.container.as_ref();
        let investigation = Investigation {
            log_tail: container
                .map(|container| self.log_tail(container, detection.event.time, log_tail))
                .unwrap_or_default(),
            recent_findings: self.recent(container),
        };
        let mut result = detect::finding::build(
            detection,
            spec,
            &self.settings,
            &self.naming,
            &investigation,
        );
        if times > 1 {
            let properties = &mut result.finding.source_properties;
            properties.insert(store::OCCURRENCES.to_owned(), times.into());
        }
        self.remember(container, &result);
        Some(result)
    }

    fn log_tail(
        &mut self,
        container: &Container,
        now: Timestamp,
        read: &impl Fn(&Container) -> Vec<Text>,
    ) -> Vec<Text> {
        if let Some((time, lines)) = self.log_tails.get(&container.id)
            && now.abs_diff(*time) < LOG_TAIL_INTERVAL
        {
            return lines.clone();
        }
        let lines = read(container);
        self.log_tails
            .put(container.id.clone(), (now, lines.clone()));
        lines
    }

    fn recent(&mut self, container: Option<&Arc<Container>>) -> Vec<RecentFinding> {
        container
            .and_then(|container| self.recent.get(&container.id))
            .map(|recent| recent.iter().cloned().collect())
            .unwrap_or_default()
    }

    fn remember(&mut self, container: Option<&Arc<Container>>, result: &FindingResult) {
        let Some(container) = container else { return };
        let finding = &result.finding;
        let recent = self
            .recent
            .get_or_insert_mut(container.id.clone(), VecDeque::new);
        recent.retain(|other| other.name != finding.name);
        if recent.len() >= RECENT_FINDINGS_MAX {
            recent.pop_front();
        }
        recent.push_back(RecentFinding {
            name: finding.name.clone(),
            category: finding.category.clone(),
            severity: finding.severity,
            event_time: finding.event_time,
        });
    }
}

#[cfg(test)]
mod tests {
    use model::{event::LossSource, finding::State};

    use super::*;

    #[test]
    fn a_log_is_read_once_a_second_however_many_facts_there_are() {
        let mut reporter = Reporter::new(Settings::default(), Naming::default());
        let reads = std::cell::Cell::new(0);
        for ms in 0..2500 {
            let event = EnrichedEvent {
                time: Timestamp(1_700_000_000_000_000_000).plus_ns(ms * 1_000_000),
                container: Some(Arc::new(Container {
                    id: "c".to_owned(),
                    ..Container::default()
                })),
                process: None,
                payload: EnrichedPayload::NotCovered {
                    what: ms.to_string(),
                },
            };
            let found = reporter.findings(&event, |_| {
                reads.set(reads.get() + 1);
                Vec::new()
            });
            assert_eq!(found.len(), 1);
        }
        assert_eq!(reads.get(), 3);
    }

    #[test]
    fn a_loss_is_over_after_ten_minutes_and_the_next_one_is_news() {
        let mut reporter = Reporter::new(Settings::default(), Naming::default());
        let directory = tempfile::tempdir().unwrap();
        let store = store::Store::open(directory.path()).unwrap();
        let at = |second: u64| Timestamp((1_700_000_000 + second) * 1_000_000_000);
        let mut told = Vec::new();
        for second in 0..2000 {
            let mut found = reporter.ends_of_losses(at(second), |_| Vec::new());
            found.extend(reporter.repeats(Some(at(second)), |_| Vec::new()));
            if [0, 1, 500, 1500].contains(&second) {
                let event = EnrichedEvent {
                    time: at(second),
                    container: None,
                    process: None,
                    payload: EnrichedPayload::Loss(Loss {
                        source: LossSource::ExecRing,
                        count: 10,
                    }),
                };
                found.extend(reporter.findings(&event, |_| Vec::new()));
            }
            for recorded in store.record(&found).unwrap() {
                if !matches!(recorded.outcome, store::Outcome::Repeat { .. }) {
                    told.push((second, recorded.outcome));
                }
            }
            if second == 1499 {
                let name = &told_name(&store);
                let finding = store.get(name).unwrap().finding;
                assert_eq!(finding.state, State::Inactive);
                assert_eq!(finding.source_properties[LOST_EVENTS], 30);
                assert!(finding.description.starts_with("10 events"));
            }
        }
        use store::Outcome::{Changed, New, Reactivated};
        let expected = [
            (0, New),
            (1100, Changed { count: 3 }),
            (1500, Reactivated { count: 4 }),
        ];
        assert_eq!(told, expected);
    }

    fn told_name(store: &store::Store) -> String {
        let page = store.list(&store::Query::default()).unwrap();
        page.results[0].finding.name.clone()
    }

    #[test]
    fn losses_that_are_found_again_are_added_up() {
        let mut reporter = Reporter::new(Settings::default(), Naming::default());
        let mut found = Vec::new();
        // Within a second, after it, and at the end.
        for (ms, count) in [(0, 1), (10, 20), (20, 300), (1500, 4000), (1510, 50_000)] {
            let event = EnrichedEvent {
                time: Timestamp(1_700_000_000_000_000_000).plus_ns(ms * 1_000_000),
                container: None,
                process: None,
                payload: EnrichedPayload::Loss(Loss {
                    source: LossSource::ExecRing,
                    count,
                }),
            };
            found.extend(reporter.findings(&event, |_| Vec::new()));
        }
        found.extend(reporter.repeats(None, |_| Vec::new()));
        let property = |name: &str| -> Vec<u64> {
            let properties = found.iter().map(|result| &result.finding.source_properties);
            properties
                .map(|properties| {
                    properties
                        .get(name)
                        .map_or(1, |count| count.as_u64().unwrap())
                })
                .collect()
        };
        assert_eq!(property(LOST_EVENTS), [1, 4320, 50_000]);
        assert_eq!(property(store::OCCURRENCES), [1, 3, 1]);

        let directory = tempfile::tempdir().unwrap();
        let store = store::Store::open(directory.path()).unwrap();
        store.record(&found).unwrap();
        let name = &found[0].finding.name;
        let stored = store.get(name).unwrap();
        let properties = stored.finding.source_properties;
        assert_eq!(properties[LOST_EVENTS], 54_321);
        assert_eq!(properties[store::OCCURRENCES], 5);
    }
}
