//! Library loads.

use std::collections::hash_map::Entry;
use std::time::Instant;

use model::event::Event;
use model::event::LibraryLoad;
use model::event::LossSource;
use model::event::Observation;
use model::event::Payload;
use model::event::ProcessKey;

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
                if self.processes.contains(&pid)
                    && let Some(loads) = &mut self.loads
                {
                    loads.hold(pid, now);
                }
                Ok(false)
            }
            PerfRecord::Mapping(mapping) => {
                if self.known(mapping.pid, mapping.boot_ns).is_none() {
                    return Ok(false);
                }
                let ready = match &mut self.loads {
                    Some(loads) => loads.or_hold(mapping),
                    None => Some(mapping),
                };
                if let Some(mapping) = ready {
                    self.load(mapping)?;
                }
                Ok(true)
            }
            PerfRecord::Other => Ok(false),
        }
    }

    pub(super) fn release_loads(&mut self, pid: u32) -> Result<(), Closed> {
        let released = self.loads.as_mut().map(|loads| loads.release(pid));
        for mapping in released.unwrap_or_default() {
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
        let anchor = self
            .marks
            .as_ref()
            .and_then(|marks| marks.anchor(known.mnt_namespace));
        let root = anchor.and_then(|anchor| match self.roots.entry(anchor) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => Some(entry.insert(Root::of(anchor)?)),
        });
        let has_ended = self
            .ends
            .get(&pid)
            .is_some_and(|&end| mapping.boot_ns <= end);
        let mut content = self
            .opened
            .take_inode(pid, mapping.inode, mapping.device)
            .or_else(|| {
                let time = self.clock.wall(mapping.boot_ns);
                loads::content(&mapping, time, has_ended, root, &mut self.delivered)
            });
        if let Some(content) = &content
            && is_program(content.key.device, content.key.inode)
        {
            return Ok(());
        }
        let path = std::mem::take(&mut mapping.path);
        let mut file = loads::facts(&mapping, path, content.as_ref());
        // `ld.so` comes from fanotify, which does not tell the mount. It is the program's as a rule.
        if file.mount_id == 0 && known.program_devices.contains(&mapping.device) {
            file.mount_id = known.program_mount;
        }
        file.is_memfd = file.key.is_some_and(|key| self.prompt.is_memfd(key.device));
        file.filesystem = self.filesystem(known.mnt_namespace, file.mount_id);
        let fd = content
            .as_mut()
            .and_then(|content| self.delivered.deliver(content));
        let cgroup = self.cgroups.get(&known.cgroup_id).cloned();
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(mapping.boot_ns),
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
        })
    }
}
