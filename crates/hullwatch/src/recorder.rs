//! Stores what was found, and announces what is new once it is durable. The only thread that writes to the store while the agent
//! watches: when that waits or fails (a full disk, another process's lock), findings wait here, and the watch goes on.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use model::{Timestamp, finding::FindingResult, limits::CONTAINERS_MAX};
use store::{ContainerState, Outcome, Recorded, Store};

use crate::{agent::Announce, earlier, print};

/// The most that one transaction takes, and that waits for the recorder's turn.
pub(crate) const ITEMS_QUEUED_MAX: usize = 256;

/// Findings kept while the store cannot be written. What comes while as many wait is lost, and counted.
const WAITING_MAX: usize = 1024;

/// Time between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);

/// Time that the store gets at the end to be writable again.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// Something to be stored.
pub(crate) enum Item {
    Finding(Box<FindingResult>),
    Containers(Vec<ContainerState>),
    /// The agent lived at that time.
    Alive(Timestamp),
    /// A self-test has its first result in this run.
    Tested(Tested),
}

/// What the first result of a self-test ends.
pub(crate) struct Tested {
    /// Ids of the findings that still hold.
    pub(crate) failed: Vec<String>,
    /// When this run began.
    pub(crate) begun: Timestamp,
}

/// See the module.
pub(crate) struct Recorder {
    store: Arc<Store>,
    announce: Announce,
    findings: VecDeque<FindingResult>,
    /// By id.
    containers: HashMap<String, ContainerState>,
    alive: Option<Timestamp>,
    tested: Option<Tested>,
    outage: Option<Outage>,
    /// Told of outages that are over.
    outages: SyncSender<String>,
}

/// The store cannot be written.
struct Outage {
    from: Timestamp,
    reason: String,
    lost: u64,
    next_try: Instant,
}

impl Recorder {
    /// `outages` is told, in a sentence, about each time in which the store could not be written, once it is over.
    pub(crate) fn new(store: Arc<Store>, announce: Announce, outages: SyncSender<String>) -> Self {
        Self {
            store,
            announce,
            findings: VecDeque::new(),
            containers: HashMap::new(),
            alive: None,
            tested: None,
            outage: None,
            outages,
        }
    }

    /// Stores what comes until nobody is left to send something.
    ///
    /// # Errors
    /// When the store fails in a way that does not pass, or cannot be written at the end.
    pub(crate) fn run(mut self, items: &Receiver<Item>) -> Result<()> {
        loop {
            let wait = if self.outage.is_some() {
                RETRY
            } else {
                Duration::MAX
            };
            let first = match items.recv_timeout(wait) {
                Ok(item) => Some(item),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let more = items.try_iter().take(ITEMS_QUEUED_MAX - 1);
            for item in first.into_iter().chain(more) {
                self.take(item);
            }
            let outage = self.outage.as_ref();
            if outage.is_none_or(|outage| outage.next_try <= Instant::now()) {
                self.write()?;
            }
        }
        let deadline = Instant::now() + FINISH_MAX;
        self.write()?;
        while let Some(outage) = &self.outage {
            if Instant::now() >= deadline {
                bail!(
                    "{} findings could not be stored: {}",
                    self.findings.len() as u64 + outage.lost,
                    outage.reason
                );
            }
            thread::park_timeout(RETRY);
            self.write()?;
        }
        Ok(())
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Finding(finding) => match &mut self.outage {
                Some(outage) if self.findings.len() >= WAITING_MAX => outage.lost += 1,
                _ => self.findings.push_back(*finding),
            },
            Item::Containers(states) => {
                for state in states {
                    if self.containers.len() < CONTAINERS_MAX
                        || self.containers.contains_key(&state.id)
                    {
                        self.containers.insert(state.id.clone(), state);
                    }
                }
            }
            Item::Alive(time) => self.alive = Some(time),
            Item::Tested(tested) => self.tested = Some(tested),
        }
    }

    /// Writes all that waits, or notes that it cannot be written now.
    fn write(&mut self) -> Result<()> {
        match self.write_all() {
            Ok(()) => {
                if let Some(outage) = self.outage.take() {
                    self.tell(&outage);
                }
                Ok(())
            }
            Err(error) if error.may_pass() => {
                let next_try = Instant::now() + RETRY;
                match &mut self.outage {
                    Some(outage) => outage.next_try = next_try,
                    None => {
                        let reason = format!("{:#}", anyhow::Error::from(error));
                        print::warning(&format!(
                            "the store cannot be written ({reason}): findings wait, at most {WAITING_MAX}, until it can"
                        ));
                        self.outage = Some(Outage {
                            from: Timestamp::from(SystemTime::now()),
                            reason,
                            lost: 0,
                            next_try,
                        });
                    }
                }
                Ok(())
            }
            Err(error) => Err(error).context("storing findings"),
        }
    }

    fn write_all(&mut self) -> Result<(), store::Error> {
        if let Some(tested) = &self.tested {
            earlier::end_failed_tests(&self.store, &tested.failed, tested.begun)?;
            self.tested = None;
        }
        while !self.findings.is_empty() {
            let waiting = self.findings.make_contiguous();
            let batch = &waiting[..waiting.len().min(ITEMS_QUEUED_MAX)];
            let outcomes = self.store.record(batch)?;
            for (finding, Recorded { outcome, muted, .. }) in batch.iter().zip(outcomes) {
                if !muted && !matches!(outcome, Outcome::Repeat { .. }) {
                    (self.announce)(finding);
                }
            }
            let stored = batch.len();
            self.findings.drain(..stored);
        }
        if !self.containers.is_empty() {
            let states: Vec<_> = self.containers.values().cloned().collect();
            self.store.record_containers(&states)?;
            self.containers.clear();
        }
        if let Some(time) = self.alive {
            self.store.heartbeat(time)?;
            self.alive = None;
        }
        Ok(())
    }

    fn tell(&self, outage: &Outage) {
        let lost = match outage.lost {
            0 => "none were lost".to_owned(),
            lost => format!("{lost} were lost"),
        };
        let detail = format!(
            "findings could not be stored from {} to {} ({}); {lost}",
            outage.from,
            Timestamp::from(SystemTime::now()),
            outage.reason
        );
        print::warning(&detail);
        // Full only when nobody has listened for long.
        let _ = self.outages.try_send(detail);
    }
}
