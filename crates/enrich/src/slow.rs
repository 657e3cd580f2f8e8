//! The thread that reads large files: bounded, and fair between containers.
//!
//! One file may have gigabytes (a sparse one costs nothing to make). So files are read in turns, one container after the
//! other, and a container can only fill its own share of the queue. When it has, a file that is to be read takes the place of one
//! whose bytes are known and that only waits to be compared, or else a smaller one that of the largest: programs that matter are
//! small, and hiding one behind others takes many of its own size, which are soon read.

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
    /// The request again, when there is no room and the container's other requests all come first.
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
            match queue.take_lesser(container, &request) {
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

    /// Ends the thread. Gives back the requests that are not done, the oldest first; no more can be submitted.
    pub(crate) fn stop(&mut self) -> Vec<(Ticket, Box<Request>)> {
        self.shared.lock().is_stopped = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let jobs = std::mem::take(&mut self.shared.lock().jobs);
        let requests = jobs
            .into_values()
            .flatten()
            .map(|job| (job.ticket, job.request));
        let mut requests: Vec<_> = requests.collect();
        requests.sort_by_key(|(ticket, _)| *ticket);
        requests
    }

    /// The next finished request.
    pub(crate) fn take_done(&self) -> Option<(Ticket, Judged)> {
        self.done.try_recv().ok()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Queue {
    /// Takes the container's job that counts less than a new request, if there is one.
    fn take_lesser(&mut self, container: &str, request: &Request) -> Option<Job> {
        let left = request.bytes_left()?;
        let jobs = self.jobs.get_mut(container)?;
        let lefts = jobs
            .iter()
            .map(|job| job.request.bytes_left().unwrap_or(u64::MAX));
        let (at, most) = lefts.enumerate().max_by_key(|(_, left)| *left)?;
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

#[cfg(test)]
mod tests {
    use std::{cell::OnceCell, fs::File};

    use model::{event::FileFacts, provenance::MissingReason};

    use super::*;
    use crate::{hash::Reading, judge::Bytes};

    fn request(bytes: Bytes) -> Box<Request> {
        Box::new(Request {
            root: None,
            mounts: None,
            facts: FileFacts::default(),
            path_used: None,
            links_seen: 0,
            bytes,
            verdict: OnceCell::new(),
            listed_since: None,
        })
    }

    fn of_size(file: &File, size: u64) -> Box<Request> {
        file.set_len(size).unwrap();
        let reading = Reading::new(file.try_clone().unwrap().into()).unwrap();
        request(Bytes::Reading(Box::new(reading)))
    }

    #[test]
    fn reading_comes_before_comparing_and_small_before_large() {
        let file = tempfile::tempfile().unwrap();
        let known = || request(Bytes::Missing(MissingReason::ProcessGone));
        let mut queue = Queue::default();
        let jobs = [of_size(&file, 30), known(), of_size(&file, 10)];
        let jobs = jobs
            .into_iter()
            .zip(1..)
            .map(|(request, ticket)| Job { ticket, request });
        queue.jobs.insert("c".to_owned(), jobs.collect());
        let mut displaced_by = |request: &Request| {
            let job = queue.take_lesser("c", request);
            job.map(|job| job.ticket)
        };
        assert_eq!(displaced_by(&known()), None);
        assert_eq!(displaced_by(&of_size(&file, 20)), Some(2));
        assert_eq!(displaced_by(&of_size(&file, 20)), Some(1));
        assert_eq!(displaced_by(&of_size(&file, 20)), None);
    }
}
