//! The thread that reads large files: bounded, and fair between containers.
//!
//! One file may have terabytes (a sparse one costs nothing to make). So files are read in turns, one container after the
//! other, and a container can only fill its own share of the queue.

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

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: HashMap<u64, VecDeque<Job>>,
    /// Containers that have jobs, the next one first.
    turns: VecDeque<u64>,
    count: usize,
    is_stopped: bool,
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
    /// The request again, when the container's share or the queue is full.
    pub(crate) fn submit(
        &mut self,
        container: u64,
        request: Box<Request>,
    ) -> Result<Ticket, Box<Request>> {
        let mut queue = self.shared.lock();
        let share = queue.jobs.get(&container).map_or(0, VecDeque::len);
        if self.thread.is_none()
            || queue.count >= HASH_JOBS_MAX
            || share >= HASH_JOBS_PER_CONTAINER_MAX
        {
            return Err(request);
        }
        self.next += 1;
        let ticket = self.next;
        queue.count += 1;
        if share == 0 {
            queue.turns.push_back(container);
        }
        queue
            .jobs
            .entry(container)
            .or_default()
            .push_back(Job { ticket, request });
        self.shared.wake.notify_one();
        Ok(ticket)
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next job. `None` when the work is over.
    ///
    /// The job stays counted and its container keeps an entry while it is out, so that the shares hold.
    fn take(&self) -> Option<(u64, Job)> {
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
    fn end_turn(&self, container: u64, unfinished: Option<Job>) {
        let mut queue = self.lock();
        if unfinished.is_none() {
            queue.count = queue.count.saturating_sub(1);
        }
        let jobs = queue.jobs.entry(container).or_default();
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
