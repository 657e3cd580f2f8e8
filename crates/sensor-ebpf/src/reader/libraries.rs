//! Library loads.

use std::collections::hash_map::Entry;
use std::time::Instant;

use model::Timestamp;
use model::event::Event;
use model::event::LibraryLoad;
use model::event::LossSource;
use model::event::Observation;
use model::event::Payload;
use model::event::ProcessKey;

use crate::content::Content;
use crate::decode::Mapping;
use crate::decode::PerfRecord;
use crate::loads;
use crate::loads::Root;

use super::Closed;
use super::Reader;
use super::add;

impl Reader {
    /// Returns whether it was of interest.
    pub(super) fn perf(&mut self, record: PerfRecord, now: Instant) -> Result<bool, Closed> {
        match record {
            PerfRecord::Lost { count, .. } => {
                add(&self.shared.counters.mapping_losses, count);
                self.send_loss(LossSource::LibraryBuffer, count)?;
                Ok(true)
            }
            PerfRecord::ExecBegins { pid, .. } => {
                // What is mapped from now on belongs to an exec that is not reported yet.
                if self.processes.contains(&pid) {
                    self.held.hold(pid, now);
                }
                Ok(false)
            }
            PerfRecord::Mapping(mapping) => self.mapping(mapping),
            PerfRecord::Other => Ok(false),
        }
    }

    /// Returns whether it was of interest.
    pub(super) fn mapping(&mut self, mapping: Mapping) -> Result<bool, Closed> {
        if self.known(mapping.pid, mapping.boot_ns).is_none() {
            return Ok(false);
        }
        if let Some(mapping) = self.held.or_hold(mapping) {
            self.load(mapping)?;
        }
        Ok(true)
    }

    pub(super) fn release_loads(&mut self, pid: u32) -> Result<(), Closed> {
        for mapping in self.held.release(pid) {
            self.load(mapping)?;
        }
        Ok(())
    }

    pub(super) fn load(&mut self, mut mapping: Mapping) -> Result<(), Closed> {
        let pid = mapping.pid;
        let Some(known) = self.known(pid, mapping.boot_ns) else {
            return Ok(());
        };
        // The exec has reported its program. On an overlay `stat` may give another device than the kernel's records have.
        let is_program =
            |device, inode| inode == known.program_inode && known.program_devices.contains(&device);
        if is_program(mapping.device, mapping.inode) {
            return Ok(());
        }
        let time = self.clock.wall(mapping.boot_ns);
        let mut content = self.content_of(&mapping, known.mnt_namespace, time);
        if let Some(content) = &content
            && is_program(content.key.device, content.key.inode)
        {
            return Ok(());
        }
        if let (Some(content), Some(seen)) = (&mut content, &mapping.seen) {
            content.is_settled &= !seen.is_unsettled;
        }
        if let Some(seen) = &mapping.seen {
            self.loaded(seen, content.as_ref());
        }
        if let (Some(content), Some(seen)) = (&content, &mapping.seen)
            && seen.is_unknown
            && content.settles(seen)
        {
            self.probes.know(&seen.key);
        }
        let path = std::mem::take(&mut mapping.path);
        let mut file = loads::facts(&mapping, path, time, content.as_ref());
        if mapping.seen.is_none() {
            // `ld.so` comes from fanotify, which does not tell the mount. It is the program's as a rule.
            if file.mount_id == 0 && known.program_devices.contains(&mapping.device) {
                file.mount_id = known.program_mount;
            }
            file.is_memfd = file.key.is_some_and(|key| self.prompt.is_memfd(key.device));
            file.filesystem = self.filesystem(known.mnt_namespace, file.mount_id);
        }
        let fd = content
            .as_mut()
            .and_then(|content| self.delivered.deliver(content));
        let cgroup = self.cgroups.get(&known.cgroup_id).cloned();
        self.send_observation(Observation {
            event: Event {
                time,
                process: ProcessKey {
                    pid,
                    start_ns: known.start_ns,
                },
                cgroup,
                payload: Payload::LibraryLoad(Box::new(LibraryLoad {
                    file,
                    address_start: mapping.address_start,
                    address_end: mapping.address_end,
                })),
            },
            file: fd,
            scripts: Vec::new(),
            named: None,
        })
    }

    /// The bytes behind a mapping, from where they cost least.
    fn content_of(
        &mut self,
        mapping: &Mapping,
        mnt_namespace: u32,
        time: Timestamp,
    ) -> Option<Content> {
        let pid = mapping.pid;
        let is_unsettled = mapping.seen.as_ref().is_some_and(|seen| seen.is_unsettled);
        if let Some(seen) = &mapping.seen
            && !is_unsettled
            && let Some(key) = seen
                .keys()
                .into_iter()
                .find(|key| self.delivered.contains(key))
        {
            return Some(Content::known(key, seen.link_count));
        }
        if let Some(content) = self.opened.take_inode(pid, mapping.inode, mapping.device)
            && (!is_unsettled || content.fd.is_some())
        {
            return Some(content);
        }
        if let Some(path) = self.prompt.take_descriptor_file(pid, mapping.boot_ns)
            && let Some(content) = loads::opened(mapping, &path, &mut self.delivered)
        {
            return Some(content);
        }
        let anchor = self
            .marks
            .as_ref()
            .and_then(|marks| marks.anchor(mnt_namespace));
        let root = anchor.and_then(|anchor| match self.roots.entry(anchor) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => Some(entry.insert(Root::of(anchor)?)),
        });
        let has_ended = self
            .ends
            .iter()
            .any(|&(ended, end)| ended == pid && mapping.boot_ns <= end);
        loads::content(mapping, time, has_ended, root, &mut self.delivered)
    }
}
