//! Which containers were seen, and what of them is not: the Coverage page's source.

use std::{
    collections::{BTreeSet, HashSet},
    num::NonZeroUsize,
    time::{Duration, Instant, SystemTime},
};

use lru::LruCache;
use model::{
    Timestamp,
    enriched::{EnrichedEvent, EnrichedPayload},
    limits::CONTAINERS_MAX,
};
use store::ContainerState;

/// Time between two lists of changes: a page that people look at needs no more.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// Containers of this run.
pub(crate) struct Inventory {
    seen: LruCache<String, ContainerState>,
    changed: BTreeSet<String>,
    told: Instant,
    /// When the sensors last proved that they see.
    last_test: Option<Timestamp>,
    /// Those of the run before that had not ended then.
    earlier: Vec<ContainerState>,
}

impl Inventory {
    /// `earlier` are those that the run before knew.
    pub(crate) fn new(mut earlier: Vec<ContainerState>) -> Self {
        earlier.retain(|state| state.ended.is_none());
        let containers_max = NonZeroUsize::new(CONTAINERS_MAX).expect("CONTAINERS_MAX is not zero");
        Self {
            seen: LruCache::new(containers_max),
            changed: BTreeSet::new(),
            told: Instant::now(),
            last_test: None,
            earlier,
        }
    }

    /// Notes the event's container.
    pub(crate) fn saw(&mut self, event: &EnrichedEvent) {
        let Some(container) = event.container.as_deref() else {
            return;
        };
        if !self.seen.contains(&container.id) {
            let state = ContainerState {
                id: container.id.clone(),
                name: String::new(),
                image: String::new(),
                engine: String::new(),
                sensor: "ebpf".to_owned(),
                since: event.time,
                last_event: None,
                last_test: self.last_test,
                ended: None,
                uncovered: String::new(),
            };
            self.seen.put(container.id.clone(), state);
        }
        let Some(state) = self.seen.get_mut(&container.id) else {
            return;
        };
        state.last_event = Some(event.time);
        state.ended = None;
        // The engine's files may have been complete only after the first event.
        if state.name != container.name || state.image != container.image {
            state.name.clone_from(&container.name);
            state.image.clone_from(&container.image);
            state.engine = format!("{:?}", container.engine).to_lowercase();
        }
        if let EnrichedPayload::NotCovered { what } = &event.payload {
            state.uncovered.clone_from(what);
        }
        if !self.changed.contains(&container.id) {
            self.changed.insert(container.id.clone());
        }
    }

    /// A self-test has passed: it stands for every container that the same sensors watch.
    pub(crate) fn tested(&mut self, time: Timestamp) {
        self.last_test = Some(time);
        for (id, state) in &mut self.seen {
            state.last_test = Some(time);
            self.changed.insert(id.clone());
        }
    }

    /// What has changed, when it is time or when `is_last`. Containers of which `running` names none have ended.
    pub(crate) fn changes<'a>(
        &mut self,
        is_last: bool,
        running: impl FnOnce() -> HashSet<&'a str>,
    ) -> Vec<ContainerState> {
        if !is_last && self.told.elapsed() < TELL_INTERVAL {
            return Vec::new();
        }
        self.told = Instant::now();
        let mut changes = self.note_ends(&running());
        let changed = std::mem::take(&mut self.changed);
        changes.extend(changed.iter().filter_map(|id| self.seen.peek(id).cloned()));
        changes
    }

    /// Gives those of the run before that were gone when this one began.
    fn note_ends(&mut self, running: &HashSet<&str>) -> Vec<ContainerState> {
        let now = Timestamp::from(SystemTime::now());
        for (id, state) in &mut self.seen {
            if state.ended.is_none() && !running.contains(id.as_str()) {
                state.ended = Some(now);
                self.changed.insert(id.clone());
            }
        }
        let mut earlier = std::mem::take(&mut self.earlier);
        earlier.retain(|state| !self.seen.contains(&state.id));
        for state in &mut earlier {
            state.ended = Some(now);
        }
        earlier
    }
}
