//! Which containers were seen, and what of them is not: the Coverage page's source.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;
use model::{
    Timestamp,
    enriched::{EnrichedEvent, EnrichedPayload},
    limits::CONTAINERS_MAX,
};
use store::{ContainerState, Store};

/// Time between two writes: a page that people look at needs no more.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// Containers of this run.
pub(crate) struct Inventory {
    store: Arc<Store>,
    seen: LruCache<String, ContainerState>,
    changed: BTreeSet<String>,
    written: Instant,
}

impl Inventory {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let containers_max = NonZeroUsize::new(CONTAINERS_MAX).expect("CONTAINERS_MAX is not zero");
        Self {
            store,
            seen: LruCache::new(containers_max),
            changed: BTreeSet::new(),
            written: Instant::now(),
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
                last_test: None,
                ended: None,
                uncovered: String::new(),
            };
            self.seen.put(container.id.clone(), state);
        }
        let Some(state) = self.seen.get_mut(&container.id) else {
            return;
        };
        state.last_event = Some(event.time);
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
        for (id, state) in &mut self.seen {
            state.last_test = Some(time);
            self.changed.insert(id.clone());
        }
    }

    /// Writes what has changed, when it is time or when `is_last`.
    pub(crate) fn write(&mut self, is_last: bool) -> Result<(), store::Error> {
        if self.changed.is_empty() || (!is_last && self.written.elapsed() < WRITE_INTERVAL) {
            return Ok(());
        }
        self.written = Instant::now();
        let changed = std::mem::take(&mut self.changed);
        let states: Vec<_> = changed
            .iter()
            .filter_map(|id| self.seen.peek(id).cloned())
            .collect();
        self.store.record_containers(&states)
    }
}
