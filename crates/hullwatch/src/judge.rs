//! From an enriched event to findings: the part of the pipeline that the agent and `replay` share.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc, time::Duration};

use detect::{
    Dispatcher, Settings,
    finding::{Investigation, Naming, RecentFinding},
};
use lru::LruCache;
use model::{
    Text, Timestamp,
    detection::Detection,
    enriched::{Container, EnrichedEvent},
    finding::FindingResult,
    limits::CONTAINERS_MAX,
};

/// Other findings of a container that a finding names.
const RECENT_FINDINGS_MAX: usize = 20;

/// Facts whose repeats are counted at one time. Each may hold a process with its arguments and environment.
const REPEATED_MAX: usize = 1024;

/// A fact that happens again within this time of its last finding is only counted, until the time is over: a container that
/// runs a known program all the time must not keep the agent too busy to see another one.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Detectors, and what their detections need to become findings.
pub(crate) struct Judge {
    dispatcher: Dispatcher,
    settings: Settings,
    naming: Naming,
    /// By container id, the newest last.
    recent: LruCache<String, VecDeque<RecentFinding>>,
    /// By the finding's id.
    repeated: LruCache<String, Repeated>,
    /// Some of them have been seen again since they were last gone through, which was then.
    has_repeats: bool,
    gone_through: Timestamp,
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

impl Judge {
    pub(crate) fn new(settings: Settings, naming: Naming) -> Self {
        let size = |max| NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Self {
            dispatcher: Dispatcher::new(&settings),
            settings,
            naming,
            recent: LruCache::new(size(CONTAINERS_MAX)),
            repeated: LruCache::new(size(REPEATED_MAX)),
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
            let mut times = 1;
            if let Some(known) = self.repeated.get_mut(&id) {
                known.times += 1;
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
                .map(|container| log_tail(container))
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
