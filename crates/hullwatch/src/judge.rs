//! From an enriched event to findings: the part of the pipeline that the agent and `replay` share.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc};

use detect::{
    Dispatcher, Settings,
    finding::{Investigation, Naming, RecentFinding},
};
use lru::LruCache;
use model::{
    Text,
    enriched::{Container, EnrichedEvent},
    finding::FindingResult,
    limits::CONTAINERS_MAX,
};

/// Other findings of a container that a finding names.
const RECENT_FINDINGS_MAX: usize = 20;

/// Detectors, and what their detections need to become findings.
pub(crate) struct Judge {
    dispatcher: Dispatcher,
    settings: Settings,
    naming: Naming,
    /// By container id, the newest last.
    recent: LruCache<String, VecDeque<RecentFinding>>,
}

impl Judge {
    pub(crate) fn new(settings: Settings, naming: Naming) -> Self {
        let containers_max = NonZeroUsize::new(CONTAINERS_MAX).expect("CONTAINERS_MAX is not zero");
        Self {
            dispatcher: Dispatcher::new(&settings),
            settings,
            naming,
            recent: LruCache::new(containers_max),
        }
    }

    /// The findings that an event raises. `log_tail` is asked for the container's last log lines when there is one.
    pub(crate) fn findings(
        &mut self,
        event: &EnrichedEvent,
        log_tail: impl Fn(&Container) -> Vec<Text>,
    ) -> Vec<FindingResult> {
        let detections = self.dispatcher.on_event(event);
        let mut findings = Vec::with_capacity(detections.len());
        for detection in &detections {
            let Some(spec) = detect::find(detection.detector) else {
                continue;
            };
            let container = event.container.as_deref();
            let investigation = Investigation {
                log_tail: container.map(&log_tail).unwrap_or_default(),
                recent_findings: self.recent(event.container.as_ref()),
            };
            let result = detect::finding::build(
                detection,
                spec,
                &self.settings,
                &self.naming,
                &investigation,
            );
            self.remember(event.container.as_ref(), &result);
            findings.push(result);
        }
        findings
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
