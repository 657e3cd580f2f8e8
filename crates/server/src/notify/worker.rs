//! The threads that send: one per sink, and the route from notification configs to sinks.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use model::Timestamp;
use store::{Delivery, NotificationConfig, Store};

use super::{Config, Error, SinkConfig, format::Notification, sink::Sink};
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

/// Sinks that send until this is stopped or dropped.
pub struct Notifier {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
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
        self.ask();
        for thread in self.threads.drain(..) {
            // A panic was printed; there is nothing left to stop.
            let _ = thread.join();
        }
    }

    fn ask(&self) {
        *self.stop.lock() = true;
        self.stop.changed.notify_all();
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.ask();
    }
}

/// Makes the store's sinks those of the configuration, and starts a thread for each.
///
/// # Errors
/// When a name, filter or target is wrong. Nothing is sent then.
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
        sinks.push((name.clone(), ready));
    }
    register(store, config)?;
    let stop = Arc::new(Stop::default());
    let threads = sinks.into_iter().map(|(name, sink)| {
        let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
        std::thread::Builder::new()
            .name(format!("sink-{name}"))
            .spawn(move || Worker { store, name, sink }.run(&stop))
            .expect("the system has room for a thread per sink")
    });
    Ok(Notifier {
        threads: threads.collect(),
        stop,
    })
}

fn register(store: &Store, config: &Config) -> Result<(), Error> {
    let failed = |sink: &str, source| Error::Store {
        sink: sink.to_owned(),
        source,
    };
    for (name, SinkConfig { filter, .. }) in config {
        store
            .set_sink(name, filter)
            .map_err(|source| failed(name, source))?;
    }
    // A sink that is configured no more would gather notifications that nobody takes.
    for state in store.sinks().map_err(|source| failed("", source))? {
        if !is_notification_config(&state.name) && !config.contains_key(&state.name) {
            store
                .remove_sink(&state.name)
                .map_err(|source| failed(&state.name, source))?;
        }
    }
    Ok(())
}

fn is_notification_config(name: &str) -> bool {
    name.contains("/notificationConfigs/")
}

struct Worker {
    store: Arc<Store>,
    name: String,
    sink: Sink,
}

impl Worker {
    fn run(mut self, stop: &Stop) {
        let mut polls = 0;
        let mut queues = Vec::new();
        let mut failures = 0_u32;
        loop {
            if polls % POLLS_PER_ROUTE == 0 {
                queues = self.queues();
            }
            polls = polls.wrapping_add(1);
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
            let topic = format!("/topics/{}", self.name);
            if config.is_ok_and(|config| config.pubsub_topic.ends_with(&topic)) {
                queues.push(state.name);
            }
        }
        queues
    }

    /// Sends what is due until nothing is, or a message fails: then the sink is given time.
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
            Ok(()) => self.store.delivered(&[delivery.id]),
            Err(why) => {
                // The first failure says it; the rest shows in Coverage.
                if delivery.attempts == 0 {
                    tracing::warn!(sink.name = %self.name, error = %why, "sink {} did not take a notification: {why}", self.name);
                }
                let wait = u64::try_from(backoff(delivery.attempts).as_nanos()).unwrap_or(u64::MAX);
                let next: Timestamp = now().plus_ns(wait);
                self.store.delivery_failed(delivery.id, why, next)
            }
        };
        if let Err(error) = noted {
            tracing::error!(sink.name = %self.name, error = %error, "sink {} cannot note a delivery: {error}", self.name);
            return Err(Failed);
        }
        sent.map_err(|_| Failed)
    }
}

/// A message did not go out; the store has the reason.
struct Failed;

fn backoff(attempts: u32) -> Duration {
    BACKOFF
        .saturating_mul(1 << attempts.min(16))
        .min(BACKOFF_MAX)
}
