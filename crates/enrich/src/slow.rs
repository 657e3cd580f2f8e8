//! The thread that reads large files: bounded, and fair between containers.
//!
//! One file may have gigabytes (a sparse one costs nothing to make). So files are read in turns, one container after the
//! other, and a container can only fill its own share of the queue. When it has, a smaller file takes the place of its largest:
//! programs that matter are small, and hiding one behind others takes many of its own size, which are soon read.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use model::limits::{HASH_JOBS_MAX, HASH_JOBS_PER_CONTAINER_MAX, HASH_TURN_BYTES};

use crate::{
    hash::Block,
    judge::{Judge, Judged, Request},
    shares::Shares,
};

/// A number that names one request.
pub(crate) type Ticket = u64;

/// See the module.
pub(crate) struct Slow {
    shared: Arc<Shared>,
    done: Receiver<(Ticket, Judged)>,
    thread: Option<JoinHandle<()>>,
    next: Ticket,
}

/// A request that was queued.
pub(crate) struct Submitted {
    pub(crate) ticket: Ticket,
    /// The one that had to go for it.
    pub(crate) displaced: Option<(Ticket, Box<Request>)>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    /// By the container's id.
    jobs: HashMap<String, VecDeque<Job>>,
    /// Containers that have jobs, the next one first.
    turns: VecDeque<String>,
    /// Of all jobs, also the one being worked on.
    shares: Shares,
    is_stopped: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            jobs: HashMap::new(),
            turns: VecDeque::new(),
            shares: Shares::new(HASH_JOBS_MAX, HASH_JOBS_PER_CONTAINER_MAX),
            is_stopped: false,
        }
    }
}

struct Job {
    ticket: Ticket,
    request: Box<Request>,
}

impl Slow {
    pub(crate) fn start(judge: Arc<Judge>) -> Self {
        let shared = Arc::new(Shared::default());
        let (sender, done) = channel();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("hash".to_owned())
                .spawn(move || work(&shared, &judge, &sender))
        };
        if let Err(error) = &thread {
            tracing::error!(%error, "no thread for large files: they will not be hashed");
        }
        Self {
            shared,
            done,
            thread: thread.ok(),
            next: 0,
        }
    }

    /// Queues a request of a container.
    ///
    /// # Errors
    /// The request again, when there is no room and the container's other requests are all smaller.
    pub(crate) fn submit(
        &mut self,
        container: &str,
        request: Box<Request>,
    ) -> Result<Submitted, Box<Request>> {
        if self.thread.is_none() {
            return Err(request);
        }
        let mut queue = self.shared.lock();
        let displaced = if queue.shares.has_room(container) {
            queue.shares.take(container);
            None
        } else {
            match queue.take_largest(container, request.bytes_left()) {
                Some(job) => Some((job.ticket, job.request)),
                None => return Err(request),
            }
        };
        self.next += 1;
        let ticket = self.next;
        let jobs = queue.jobs.entry(container.to_owned()).or_default();
        jobs.push_back(Job { ticket, request });
        if !queue.turns.iter().any(|waiting| waiting == container) {
            queue.turns.push_back(container.to_owned());
        }
        self.shared.wake.notify_one();
        Ok(Submitted { ticket, displaced })
    }

    /// The next finished request.
    pub(crate) fn take_done(&self) -> Option<(Ticket, Judged)> {
        self.done.try_recv().ok()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Takes the container's job that has most left to read, when that is more than `left`.
    fn take_largest(&mut self, container: &str, left: u64) -> Option<Job> {
        let jobs = self.jobs.get_mut(container)?;
        let sizes = jobs.iter().map(|job| job.request.bytes_left());
        let (at, most) = sizes.enumerate().max_by_key(|(_, size)| *size)?;
        if most > left { jobs.remove(at) } else { None }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next job. `None` when the work is over.
    fn take(&self) -> Option<(String, Job)> {
        let mut queue = self.lock();
        loop {
            if queue.is_stopped {
                return None;
            }
            if let Some(container) = queue.turns.pop_front() {
                if let Some(job) = queue.jobs.get_mut(&container).and_then(VecDeque::pop_front) {
                    return Some((container, job));
                }
                queue.jobs.remove(&container);
                continue;
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a container's turn, with the job when it is not done.
    fn end_turn(&self, container: String, unfinished: Option<Job>) {
        let mut queue = self.lock();
        if unfinished.is_none() {
            queue.shares.give_back(&container);
        }
        let jobs = queue.jobs.entry(container.clone()).or_default();
        jobs.extend(unfinished);
        let is_empty = jobs.is_empty();
        // A job submitted meanwhile to an empty queue has asked for a turn itself.
        let has_turn = queue.turns.contains(&container);
        if is_empty {
            queue.jobs.remove(&container);
        } else if !has_turn {
            queue.turns.push_back(container);
        }
    }
}

fn work(shared: &Shared, judge: &Judge, done: &Sender<(Ticket, Judged)>) {
    let mut block = Block::default();
    while let Some((container, mut job)) = shared.take() {
        let judged = judge.slow(&mut job.request, HASH_TURN_BYTES, &mut block);
        match judged {
            None => shared.end_turn(container, Some(job)),
            Some(judged) => {
                shared.end_turn(container, None);
                if done.send((job.ticket, judged)).is_err() {
                    return;
                }
            }
        }
    }
}
