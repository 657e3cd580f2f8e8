//! Processes that ran before the watch began.

use model::event::Event;
use model::event::Observation;
use model::event::Payload;
use model::provenance::MissingReason;

use crate::decode::Header;
use crate::marks;
use crate::running;
use crate::running::Hierarchies;

use super::Closed;
use super::Known;
use super::Reader;

impl Reader {
    /// Sends the processes of containers that ran before, and their libraries.
    pub(super) fn report_running(&mut self) -> Result<(), Closed> {
        let hierarchies = Hierarchies::new();
        let host = match &self.marks {
            Some(marks) => marks.host_mnt_namespace(),
            None => marks::host().map_or(0, |(_, number)| number),
        };
        let list = std::mem::take(&mut self.already_running);
        let all = list
            .iter()
            .map(|running| (running.process.pid, *running))
            .collect();
        for running in &list {
            let pid = running.process.pid;
            let Some(cgroup) = hierarchies.cgroup(pid) else {
                continue;
            };
            if running.mnt_namespace == host && !running::looks_like_container(&cgroup) {
                continue;
            }
            let Some(mut exec) = running::exec(running, &all) else {
                continue;
            };
            let mut fd = None;
            match self.open_exe(pid, false) {
                Some(mut content) => {
                    exec.file.key = Some(content.key);
                    exec.file.link_count = content.link_count;
                    exec.file.mount_id = content.mount_id;
                    exec.file.filesystem = self.filesystem(running.mnt_namespace, content.mount_id);
                    exec.file.is_memfd = self.prompt.is_memfd(content.key.device);
                    fd = self.delivered.deliver(&mut content);
                    if content.is_overload {
                        exec.file.missing = Some(MissingReason::Overload);
                    }
                }
                None => exec.file.missing = Some(MissingReason::ProcessGone),
            }
            let cgroup = self.cgroup(cgroup.id, &cgroup.path);
            self.processes.put(
                pid,
                Known {
                    start_ns: running.process.start_ns,
                    mnt_namespace: running.mnt_namespace,
                    cgroup_id: cgroup.id,
                    program_inode: exec.file.key.map_or(0, |key| key.inode),
                    program_devices: [exec.file.key.map_or(0, |key| key.device); 2],
                    program_mount: exec.file.mount_id,
                },
            );
            let header = Header {
                boot_ns: running.process.start_ns,
                process: running.process,
                mnt_namespace: running.mnt_namespace,
                cgroup_id: cgroup.id,
            };
            self.send_observation(Observation {
                event: Event {
                    time: self.clock.wall(header.boot_ns),
                    process: header.process,
                    cgroup: Some(cgroup),
                    payload: Payload::Exec(Box::new(exec)),
                },
                file: fd,
                scripts: Vec::new(),
                named: None,
            })?;
            for mapping in running::mappings(pid, header.boot_ns) {
                self.load(mapping)?;
            }
        }
        self.roots.clear();
        Ok(())
    }
}
