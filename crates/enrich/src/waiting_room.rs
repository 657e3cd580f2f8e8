//! Where events about processes not heard of yet wait for them: two sensors report independently.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use model::{event::Observation, limits::LOADS_WAITING_MAX};

/// How long they wait. The sensors' queues are apart by milliseconds, but on a starved machine by a second. Some of what waits
/// here is about processes of the host, which nobody will announce.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    by_pid: HashMap<u32, Vec<Observation>>,
    /// The pid of each observation, the oldest first.
    order: VecDeque<(Instant, u32)>,
}

impl WaitingRoom {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Lets an observation wait. Gives back the one that had to go for it.
    pub(crate) fn push(&mut self, observation: Observation, now: Instant) -> Option<Observation> {
        let mut oldest = None;
        if self.order.len() >= LOADS_WAITING_MAX {
            oldest = self.take_oldest();
        }
        let pid = observation.event.process.pid;
        self.order.push_back((now, pid));
        self.by_pid.entry(pid).or_default().push(observation);
        oldest
    }

    /// What waits for that process, in order.
    pub(crate) fn take(&mut self, pid: u32) -> Vec<Observation> {
        if self.by_pid.is_empty() {
            return Vec::new();
        }
        let Some(observations) = self.by_pid.remove(&pid) else {
            return Vec::new();
        };
        self.order.retain(|(_, waiting)| *waiting != pid);
        observations
    }

    /// The next one that has waited in vain.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<Observation> {
        let (since, _) = self.order.front()?;
        if now.duration_since(*since) < WAIT_MAX {
            return None;
        }
        self.take_oldest()
    }

    /// The one that has waited for the longest time.
    pub(crate) fn take_oldest(&mut self) -> Option<Observation> {
        let (_, pid) = self.order.pop_front()?;
        let observations = self.by_pid.get_mut(&pid)?;
        let oldest = observations.remove(0);
        if observations.is_empty() {
            self.by_pid.remove(&pid);
        }
        Some(oldest)
    }
}
