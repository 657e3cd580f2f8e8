//! What was not judged, or not in full: counted by container, and told about once a second.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use model::{
    Timestamp,
    enriched::{Container, Content, EnrichedEvent, EnrichedPayload, File},
    event::{Loss, LossSource},
    provenance::MissingReason,
};

/// Time between two tellings.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    told: Option<Instant>,
    /// By the container's id; empty for what is of no container.
    of: BTreeMap<String, Lost>,
}

#[derive(Debug, Default)]
struct Lost {
    container: Option<Arc<Container>>,
    unhashed: BTreeMap<MissingReason, u64>,
    events: BTreeMap<LossSource, u64>,
}

impl Losses {
    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The file ran or was loaded, and may not have been hashed.
    pub(crate) fn judged(&mut self, container: &Arc<Container>, file: &File) {
        if let Content::Missing { reason } = file.content {
            *self.of(Some(container)).unhashed.entry(reason).or_default() += 1;
        }
    }

    /// Events were lost, or judged without what they wait for as a rule.
    pub(crate) fn lost(
        &mut self,
        container: Option<&Arc<Container>>,
        source: LossSource,
        count: u64,
    ) {
        if count > 0 {
            *self.of(container).events.entry(source).or_default() += count;
        }
    }

    /// What is to be told now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<EnrichedEvent> {
        let is_soon = self
            .told
            .is_some_and(|told| now.duration_since(told) < INTERVAL);
        if self.of.is_empty() || is_soon {
            return Vec::new();
        }
        self.told = Some(now);
        self.take()
    }

    /// Everything that is still to be told.
    pub(crate) fn take(&mut self) -> Vec<EnrichedEvent> {
        let time = Timestamp::from(SystemTime::now());
        let mut due = Vec::new();
        for lost in std::mem::take(&mut self.of).into_values() {
            let files = lost.unhashed;
            let unhashed = (!files.is_empty()).then_some(EnrichedPayload::Unhashed { files });
            let losses = lost.events.into_iter();
            let losses =
                losses.map(|(source, count)| EnrichedPayload::Loss(Loss { source, count }));
            due.extend(unhashed.into_iter().chain(losses).map(|payload| {
                let container = lost.container.clone();
                EnrichedEvent {
                    time,
                    container,
                    process: None,
                    payload,
                }
            }));
        }
        due
    }

    fn of(&mut self, container: Option<&Arc<Container>>) -> &mut Lost {
        let id = container.map_or("", |container| container.id.as_str());
        let lost = self.of.entry(id.to_owned()).or_default();
        lost.container = container.cloned();
        lost
    }
}
