//! The threads that send: one per sink, and the route from notification configs to sinks.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use model::Timestamp;
use store::{Delivery, NotificationConfig, NotifierLock, Store};

use super::{
    Config, Error, SinkConfig,
    format::Notification,
    sink::{Failure, Sink},
};
use crate::app::now;

/// How often a sink's queue is looked at. Other processes write to it too, so there is nothing to wait for.
const POLL: Duration = Duration::from_millis(500);

/// Looks between two readings of the notification configs.
const POLLS_PER_ROUTE: u32 = 6;

/// Messages taken from the queue at a time.
const BATCH: u32 = 64;

/// Time before the second try. It doubles with each, up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// How often a process asks for the right to send that another one has.
const TAKE_OVER: Duration = Duration::from_secs(2);

/// How often sinks that no configuration has are looked at.
const RETIRE_INTERVAL: Duration = Duration::from_secs(3600);

/// Times that a receiver may refuse one message while it takes others, over some nine minutes. Then the message is given up.
const REFUSALS_MAX: u32 = 10;

/// Refusals in a row that say something of the sink rather than of the messages, such as a wrong address or key.
const REFUSALS_IN_A_ROW_MAX: u32 = 8;

/// Sinks that send until this is stopped or dropped.
pub struct Notifier {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Waits for so long; true when it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), time, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Notifier {
    /// Stops after the messages under way. What is not sent waits in the store.
    pub fn stop(mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            // A panic was printed; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.stop.ask();
    }
}

/// Makes the store's sinks those of the configuration, and starts a thread for each. While another process sends from this
/// store, this one waits to take over.
///
/// # Errors
/// When a name, filter or target is wrong, or the store fails. Nothing is sent then.
pub fn start(store: &Arc<Store>, config: &Config) -> Result<Notifier, Error> {
    let mut sinks = Vec::new();
    for (name, sink) in config {
        let good = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !good {
            return Err(Error::Name(name.clone()));
        }
        let ready = Sink::new(sink).map_err(|why| Error::Target {
            sink: name.clone(),
            why,
        })?;
        store::filter::check(&sink.filter).map_err(|source| Error::Filter {
            sink: name.clone(),
            source,
        })?;
        sinks.push((name.clone(), ready));
    }
    let lock = take_lead(store, config).map_err(Error::Lead)?;
    let stop = Arc::new(Stop::default());
    // One that has no sinks leaves the right to send to those that have.
    let spawn = || {
        let lead = Lead {
            store: Arc::clone(store),
            config: config.clone(),
            sinks,
        };
        let stop = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("notifier".to_owned())
            .spawn(move || lead.run(lock, &stop))
    };
    let thread = if config.is_empty() {
        None
    } else {
        Some(spawn().map_err(Error::Thread)?)
    };
    Ok(Notifier { stop, thread })
}

/// Takes the right to send, if no other process has it, and makes the store's sinks those of the configuration.
fn take_lead(store: &Store, config: &Config) -> Result<Option<NotifierLock>, store::Error> {
    let Some(lock) = store.lock_notifier()? else {
        return Ok(None);
    };
    for (name, SinkConfig { filter, .. }) in config {
        store.set_sink(name, filter)?;
    }
    retire(store, config)?;
    Ok(Some(lock))
}

fn retire(store: &Store, config: &Config) -> Result<(), store::Error> {
    let names: Vec<&str> = config.keys().map(String::as_str).collect();
    store.retire_other_sinks(&names, now())
}

/// The thread that all sinks of a process hang on.
struct Lead {
    store: Arc<Store>,
    config: Config,
    sinks: Vec<(String, Sink)>,
}

impl Lead {
    /// Waits for the right to send, then runs the sinks until told to stop.
    fn run(self, mut lock: Option<NotifierLock>, stop: &Stop) {
        if lock.is_none() {
            tracing::warn!(
                "another process sends this store's notifications; this one takes over when that one ends"
            );
        }
        while lock.is_none() {
            if stop.wait(TAKE_OVER) {
                return;
            }
            lock = take_lead(&self.store, &self.config).unwrap_or_else(|error| {
                tracing::error!(error = %error, "the notifier cannot take over: {error}");
                None
            });
        }
        std::thread::scope(|scope| {
            for (name, sink) in self.sinks {
                let store = Arc::clone(&self.store);
                let thread = std::thread::Builder::new().name(format!("sink-{name}"));
                let worker = Worker::new(store, name, sink);
                if let Err(error) = thread.spawn_scoped(scope, || worker.run(stop)) {
                    // The right to send goes back; Coverage says that nobody has it.
                    tracing::error!(error = %error, "notifications end: there is no thread for each sink: {error}");
                    stop.ask();
                    return;
                }
            }
            while !stop.wait(RETIRE_INTERVAL) {
                if let Err(error) = retire(&self.store, &self.config) {
                    tracing::error!(error = %error, "the notifier cannot look for old sinks: {error}");
                }
            }
        });
    }
}

/// Only these have a slash in their names.
pub(crate) fn is_notification_config(sink: &str) -> bool {
    sink.contains('/')
}

/// The sink that a notification config's messages go to.
pub(crate) fn sink_of_topic(pubsub_topic: &str) -> Option<&str> {
    let (_, sink) = pubsub_topic.rsplit_once("/topics/")?;
    Some(sink)
}

struct Worker {
    store: Arc<Store>,
    name: String,
    sink: Sink,
    /// When the sink last took a message.
    taken: Option<Timestamp>,
    /// Refusals since then, or since the last pause.
    refusals: u32,
}

impl Worker {
    fn new(store: Arc<Store>, name: String, sink: Sink) -> Self {
        Self {
            store,
            name,
            sink,
            taken: None,
            refusals: 0,
        }
    }

    fn run(mut self, stop: &Stop) {
        let mut polls = 0;
        let mut queues = Vec::new();
        let mut failures = 0_u32;
        loop {
            if polls % POLLS_PER_ROUTE == 0 {
                queues = self.queues();
            }
            polls = polls.wrapping_add(1);
            self.refusals = 0;
            let pause = match queues
                .iter()
                .try_for_each(|queue| self.work_off(queue, stop))
            {
                Ok(()) => {
                    failures = 0;
                    POLL
                }
                Err(Failed) => {
                    let pause = backoff(failures);
                    failures = failures.saturating_add(1);
                    pause
                }
            };
            if stop.wait(pause) {
                return;
            }
        }
    }

    /// The queues whose messages go to this sink: its own, and those of notification configs whose topic it is.
    fn queues(&self) -> Vec<String> {
        let mut queues = vec![self.name.clone()];
        let states = self.store.sinks().unwrap_or_default();
        for state in states
            .into_iter()
            .filter(|state| is_notification_config(&state.name))
        {
            let config = self.store.resource::<NotificationConfig>(&state.name);
            if config.is_ok_and(|config| sink_of_topic(&config.pubsub_topic) == Some(&self.name)) {
                queues.push(state.name);
            }
        }
        queues
    }

    /// Sends what is due until nothing is, or the sink fails: then it is given time.
    fn work_off(&mut self, queue: &str, stop: &Stop) -> Result<(), Failed> {
        loop {
            let due = match self.store.due(queue, now(), BATCH) {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(sink.name = %self.name, error = %error, "sink {} cannot read its queue: {error}", self.name);
                    return Err(Failed);
                }
            };
            let is_last = due.len() < BATCH as usize;
            for delivery in due {
                if stop.wait(Duration::ZERO) {
                    return Ok(());
                }
                self.deliver(queue, &delivery)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, queue: &str, delivery: &Delivery) -> Result<(), Failed> {
        let id = format!("{}-{}", delivery.id, delivery.created.0);
        let sent = self.sink.send(&Notification {
            config: queue,
            result: &delivery.result,
            time: delivery.created,
            id: &id,
        });
        let noted = match &sent {
            Ok(()) => {
                self.taken = Some(now());
                self.refusals = 0;
                self.store.delivered(delivery)
            }
            Err(failure) if failure.refused && self.is_hopeless(delivery) => {
                let why = &failure.why;
                tracing::warn!(sink.name = %self.name, error = %why, "sink {} refuses a notification, it is given up: {why}", self.name);
                self.store.give_up(delivery, why)
            }
            Err(Failure { why, .. }) => {
                // The first failure says it; the rest shows in Coverage.
                if delivery.attempts == 0 {
                    tracing::warn!(sink.name = %self.name, error = %why, "sink {} did not take a notification: {why}", self.name);
                }
                let wait = u64::try_from(backoff(delivery.attempts).as_nanos()).unwrap_or(u64::MAX);
                let next: Timestamp = now().plus_ns(wait);
                self.store.delivery_failed(delivery, why, next)
            }
        };
        if let Err(error) = noted {
            tracing::error!(sink.name = %self.name, error = %error, "sink {} cannot note a delivery: {error}", self.name);
            return Err(Failed);
        }
        match sent {
            Ok(()) => Ok(()),
            Err(Failure { refused: true, .. }) if self.refusals + 1 < REFUSALS_IN_A_ROW_MAX => {
                self.refusals += 1;
                Ok(())
            }
            Err(_) => Err(Failed),
        }
    }

    /// Is it this message that the receiver does not want: it was refused often, and others were taken meanwhile. A receiver
    /// that refuses everything, because of a wrong key perhaps, loses nothing.
    fn is_hopeless(&self, delivery: &Delivery) -> bool {
        delivery.attempts + 1 >= REFUSALS_MAX
            && self.taken.is_some_and(|taken| taken > delivery.created)
    }
}

/// The sink did not take a message; the store has the reason.
struct Failed;

fn backoff(attempts: u32) -> Duration {
    BACKOFF
        .saturating_mul(1 << attempts.min(16))
        .min(BACKOFF_MAX)
}
