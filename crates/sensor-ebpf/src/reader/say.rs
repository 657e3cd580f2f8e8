//! What is known of a process, and how it is said.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use model::Text;
use model::event::Cgroup;
use model::event::Event;
use model::event::FileFacts;
use model::event::Loss;
use model::event::LossSource;
use model::event::Observation;
use model::event::Payload;
use model::event::SensorState;
use model::proc_files::TICK_NS;
use model::provenance::MissingReason;

use crate::clock;
use crate::content::Content;
use crate::decode::Header;
use crate::running;
use crate::running::Running;

use super::Closed;
use super::ENDS_LOST_WAIT;
use super::Known;
use super::Reader;
use super::UNSENT_MAX;
use super::add;

impl Reader {
    /// The process that had the pid at that time.
    pub(super) fn known(&mut self, pid: u32, boot_ns: u64) -> Option<Known> {
        if let Some(known) = self.processes.get(&pid) {
            return Some(*known);
        }
        let (known, end_ns) = self.ended.get(&pid)?;
        (boot_ns <= *end_ns).then_some(*known)
    }

    /// Ends processes that do not run any more though nothing said so. Their pids are others' soon, of the host too.
    pub(super) fn end_gone(&mut self) {
        // One source of start times rounds to it.
        let tick = |start_ns| start_ns / TICK_NS;
        let running: HashSet<_> = running::list()
            .into_iter()
            .map(|Running { process, .. }| (process.pid, tick(process.start_ns)))
            .collect();
        let is_gone = |pid: u32, known: &Known| !running.contains(&(pid, tick(known.start_ns)));
        let gone: Vec<_> = self
            .processes
            .iter()
            .filter(|(pid, known)| is_gone(**pid, known))
            .map(|(&pid, &known)| (pid, known))
            .collect();
        let now_ns = clock::boot_ns();
        for (pid, known) in gone {
            self.processes.pop(&pid);
            // What it did before may still be in a ring.
            self.ended.put(pid, (known, now_ns));
            self.roots.remove(&pid);
            if let Some(marks) = &mut self.marks {
                marks.exited(pid, known.mnt_namespace);
            }
        }
    }

    pub(super) fn cgroup(&mut self, id: u64, path: &Text) -> Arc<Cgroup> {
        if let Some(known) = self.cgroups.get(&id)
            && known.path == *path
        {
            return Arc::clone(known);
        }
        let cgroup = Arc::new(Cgroup {
            id,
            path: path.clone(),
        });
        self.cgroups.put(id, Arc::clone(&cgroup));
        cgroup
    }

    pub(super) fn filesystem(&self, mnt_namespace: u32, mount_id: u32) -> Text {
        self.marks
            .as_ref()
            .and_then(|marks| marks.filesystem(mnt_namespace, mount_id))
            .cloned()
            .unwrap_or_default()
    }

    /// Facts of a script or file without format.
    pub(super) fn facts(&self, content: &Content, mnt_namespace: u32) -> FileFacts {
        FileFacts {
            path: content.path.clone(),
            key: Some(content.key),
            link_count: content.link_count,
            mount_id: content.mount_id,
            filesystem: self.filesystem(mnt_namespace, content.mount_id),
            is_memfd: self.prompt.is_memfd(content.key.device),
            is_unsettled: !content.is_settled,
            missing: content.is_overload.then_some(MissingReason::Overload),
            ..FileFacts::default()
        }
    }

    /// Says what the kernel counted as lost since the last time.
    pub(super) fn report_losses(&mut self, undecodable: u64) -> Result<(), Closed> {
        let mut counters = self.probes.counters();
        counters.execs += self.missed_runs.exec;
        counters.exec_losses += self.missed_runs.exec;
        counters.process_events += self.missed_runs.process;
        counters.process_losses += self.missed_runs.process;
        counters.loads += self.missed_runs.load;
        counters.load_losses += self.missed_runs.load;
        let exec = counters
            .exec_losses
            .saturating_sub(self.reported.exec_losses);
        let process = counters
            .process_losses
            .saturating_sub(self.reported.process_losses);
        let load = counters
            .load_losses
            .saturating_sub(self.reported.load_losses);
        add(
            &self.shared.counters.mappings,
            counters.loads.saturating_sub(self.reported.loads),
        );
        add(&self.shared.counters.mapping_losses, load);
        self.reported = counters;
        let shared = &self.shared.counters;
        shared.execs.store(counters.execs, Ordering::Relaxed);
        shared
            .exec_losses
            .store(counters.exec_losses, Ordering::Relaxed);
        shared
            .process_events
            .store(counters.process_events, Ordering::Relaxed);
        shared
            .process_losses
            .store(counters.process_losses, Ordering::Relaxed);
        add(&shared.undecodable, undecodable);
        if process > 0 {
            let due = Instant::now() + ENDS_LOST_WAIT;
            self.ends_lost.get_or_insert(due);
        }
        for (source, count) in [
            (LossSource::ExecRing, exec),
            (LossSource::ProcessRing, process),
            (LossSource::LibraryBuffer, load),
            (LossSource::Decode, undecodable),
        ] {
            if count > 0 {
                self.send_loss(source, count)?;
            }
        }
        Ok(())
    }

    pub(super) fn send_loss(&mut self, source: LossSource, count: u64) -> Result<(), Closed> {
        self.send_own(Payload::Loss(Loss { source, count }))
    }

    pub(super) fn send_state(&mut self, state: SensorState) -> Result<(), Closed> {
        self.send_own(Payload::SensorState(state))
    }

    /// What is about the sensor itself.
    fn send_own(&mut self, payload: Payload) -> Result<(), Closed> {
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(clock::boot_ns()),
                process: self.own,
                cgroup: None,
                payload,
            },
            file: None,
            scripts: Vec::new(),
            named: None,
        })
    }

    pub(super) fn send(
        &mut self,
        header: &Header,
        cgroup: Option<Arc<Cgroup>>,
        payload: Payload,
    ) -> Result<(), Closed> {
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(header.boot_ns),
                process: header.process,
                cgroup,
                payload,
            },
            file: None,
            scripts: Vec::new(),
            named: None,
        })
    }

    pub(super) fn send_observation(&mut self, observation: Observation) -> Result<(), Closed> {
        self.unsent.push(observation);
        if self.unsent.len() < UNSENT_MAX {
            return Ok(());
        }
        self.send_all()
    }

    /// Everything at once: a receiver that waits is woken once and then finds more, instead of being woken for each.
    pub(super) fn send_all(&mut self) -> Result<(), Closed> {
        for observation in self.unsent.drain(..) {
            self.sender.send(observation).map_err(|_| Closed)?;
        }
        Ok(())
    }
}
