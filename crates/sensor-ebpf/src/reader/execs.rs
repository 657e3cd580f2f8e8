//! Execs, forks and exits, and the bytes of what was executed.

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use model::Text;
use model::event::Event;
use model::event::FileFacts;
use model::event::Named;
use model::event::Observation;
use model::event::Payload;
use model::event::ProcessKey;
use model::provenance::MissingReason;
use rustix::fs::OFlags;

use crate::clock;
use crate::content;
use crate::content::Content;
use crate::decode::ExecRecord;
use crate::decode::Header;
use crate::decode::Record;
use crate::familiar::State;
use crate::loads;

use super::Closed;
use super::Known;
use super::PENDING_MAX;
use super::Reader;

impl Reader {
    /// What cannot wait for a record's turn: new mounts, and programs that only their process leads to.
    pub(super) fn look_ahead(&mut self, record: &Record, now: Instant) {
        let header = record.header();
        let pid = header.process.pid;
        if let Some(marks) = &mut self.marks {
            match record {
                Record::Exit { .. } => marks.ends(pid, header.mnt_namespace),
                Record::Load(_) => {}
                _ => marks.saw(header.mnt_namespace, pid, now),
            }
        }
        if let Record::Exit { .. } = record {
            self.ends.push((pid, header.boot_ns));
        }
        let Record::Exec(exec) = record else {
            return;
        };
        if self.is_watched(exec) {
            return;
        }
        if self.early.len() < PENDING_MAX
            && let Some(content) = self.content_by_proc(header, &exec.exec.file)
        {
            self.early.insert((pid, header.boot_ns), content);
        }
        if let Some(marks) = &mut self.marks
            && !exec.exec.file.is_memfd
        {
            marks.used(header.mnt_namespace, exec.exec.file.mount_id, pid, now);
        }
    }

    pub(super) fn record(&mut self, record: Record, now: Instant) -> Result<(), Closed> {
        match record {
            Record::Exec(record) => self.exec(*record, now),
            Record::Fork { header, parent } => {
                // It goes on with its parent's program.
                let program = self.processes.peek(&parent.pid).copied();
                let program = program.filter(|known| known.start_ns == parent.start_ns);
                self.saw(&header, program.unwrap_or_default(), now);
                let cgroup = self.cgroups.get(&header.cgroup_id).cloned();
                self.send(&header, cgroup, Payload::Fork { parent })
            }
            Record::Exit { header } => {
                let pid = header.process.pid;
                for content in self.opened.exited(pid) {
                    self.exec_no_format(pid, content)?;
                }
                self.release_loads(pid)?;
                self.roots.remove(&pid);
                if let Some(known) = self.processes.pop(&pid) {
                    self.ended.put(pid, (known, header.boot_ns));
                }
                if let Some(marks) = &mut self.marks {
                    marks.exited(pid, header.mnt_namespace);
                }
                let cgroup = self.cgroups.get(&header.cgroup_id).cloned();
                self.send(&header, cgroup, Payload::Exit)
            }
            // An exec tells of its loads, too.
            Record::Load(_) if !self.probes.tells_loads => Ok(()),
            Record::Load(load) => self.mapping(load.mapping).map(|_| ()),
            // Comes by another ring, to another reader.
            Record::Prompt { .. } | Record::Arguments(_) => Ok(()),
        }
    }

    /// `program` is what is known of the program that the process runs.
    fn saw(&mut self, header: &Header, program: Known, now: Instant) {
        self.processes.put(
            header.process.pid,
            Known {
                start_ns: header.process.start_ns,
                mnt_namespace: header.mnt_namespace,
                cgroup_id: header.cgroup_id,
                ..program
            },
        );
        if let Some(marks) = &mut self.marks {
            marks.saw(header.mnt_namespace, header.process.pid, now);
        }
    }

    pub(super) fn exec(&mut self, mut record: ExecRecord, now: Instant) -> Result<(), Closed> {
        let pid = record.header.process.pid;
        // Whatever was opened before the exec was reported is in the queue. Read on until it is found.
        let early = self.early.remove(&(pid, record.header.boot_ns));
        let seen = record.exec.file.key;
        let state = seen.map_or(State::Told, |seen| self.familiar.state(&seen));
        let is_untold = seen.is_some_and(|seen| self.is_known_untold(seen));
        if early.is_none() && self.is_watched(&record) && (!is_untold || record.interpreted) {
            while !self.opened.has(&record) && self.read_fanotify(now)? > 0 {}
        }
        let found = self.opened.take(&record);
        for content in found.failed {
            self.exec_no_format(pid, content)?;
        }
        if let Some(seen) = seen.filter(|_| !is_untold) {
            self.tell_again(&seen, now);
        }
        // Bytes that were known before the change, or while it may be changing, are not what ran.
        let is_unsettled = record.exec.file.is_unsettled;
        let told = found.file.filter(|content| {
            !(state == State::Changed || is_unsettled)
                || content.fd.is_some()
                || content.is_overload
        });
        let mut content = told.or(early);
        if content.is_none() {
            content = self.content_by_proc(&record.header, &record.exec.file);
        }
        if let Some(content) = &mut content {
            content.is_settled &= !is_unsettled;
        }
        if record.has_prompt {
            // Not needed when it is known, or fanotify has told of it, too.
            drop(self.prompt.take_program(pid, record.header.boot_ns));
        }
        if let (Some(content), Some(seen)) = (&content, &seen)
            && record.is_stamped
            && self.probes.can_expect()
        {
            self.familiar.ran(seen, content);
        }
        let program = record.exec.file.key.map_or_else(Known::default, |key| {
            let by_stat = content
                .as_ref()
                .map_or(key.device, |content| content.key.device);
            Known {
                program_inode: key.inode,
                program_devices: [key.device, by_stat],
                program_mount: record.exec.file.mount_id,
                ..Known::default()
            }
        });
        self.saw(&record.header, program, now);
        let mut file_fd = None;
        match &mut content {
            Some(content) => {
                let ran = self.clock.wall(record.header.boot_ns);
                let key = content::key_then(content.key, record.exec.file.key, ran);
                record.exec.file.key = Some(key);
                file_fd = self.delivered.deliver(content);
                if file_fd.is_none() && content.is_overload {
                    record.exec.file.missing = Some(MissingReason::Overload);
                }
            }
            None => {
                record.exec.file.missing = Some(self.why_missing(&record, now));
            }
        }
        let mut script_fds = Vec::new();
        let mut scripts = found.scripts;
        if record.interpreted
            && let Some(script) = self.prompt.take_descriptor_file(pid, record.header.boot_ns)
            && scripts.is_empty()
        {
            scripts.extend(self.read_promptly_opened(&script, false));
        }
        for mut script in scripts {
            script_fds.push(self.delivered.deliver(&mut script));
            let facts = self.facts(&script, record.header.mnt_namespace);
            record.exec.scripts.push(facts);
        }
        if record.interpreted && record.exec.scripts.is_empty() {
            script_fds.push(None);
            record.exec.scripts.push(FileFacts {
                path: record.exec.filename.clone(),
                missing: Some(self.why_missing(&record, now)),
                ..FileFacts::default()
            });
        }
        let named = record.has_arguments.then(|| {
            let files = self.prompt.take_named(pid, record.header.boot_ns);
            let is_taken = |(_, file): &(Text, OwnedFd)| {
                !content::is_of_second_half(file) && loads::regular_file(file).is_some()
            };
            Box::new(Named {
                files: files.into_iter().filter(is_taken).collect(),
                program: seen.filter(|_| record.is_unclassified),
            })
        });
        let cgroup = self.cgroup(record.header.cgroup_id, &record.cgroup_path);
        let event = Event {
            time: self.clock.wall(record.header.boot_ns),
            process: record.header.process,
            cgroup: Some(cgroup),
            payload: Payload::Exec(record.exec),
        };
        self.send_observation(Observation {
            event,
            file: file_fd,
            scripts: script_fds,
            named,
        })?;
        self.release_loads(pid)
    }

    /// The program that a process runs now. `is_unsettled`: what is known under its key are not its bytes.
    pub(super) fn open_exe(&mut self, pid: u32, is_unsettled: bool) -> Option<Content> {
        let fd = proc_reader::open(pid, "exe", OFlags::RDONLY | OFlags::NOCTTY)?;
        let mount_id = content::mount_id(&fd);
        let mut content = if is_unsettled {
            self.delivered.unsettled(fd)?
        } else {
            self.delivered.content(fd)?
        };
        content.mount_id = mount_id;
        Some(content)
    }

    /// The program by way of the process, when fanotify had no mark on its mount: only while the process lives.
    pub(super) fn content_by_proc(&mut self, header: &Header, file: &FileFacts) -> Option<Content> {
        let key = file.key?;
        let (pid, boot_ns) = (header.process.pid, header.boot_ns);
        if !file.is_unsettled && self.delivered.contains(&key) {
            return Some(Content::known(key, file.link_count));
        }
        // The process may be too fast for `open_exe`, but then its program has been opened by the time that this fails.
        let content = self
            .promptly_opened(pid, boot_ns, file.is_unsettled)
            .or_else(|| self.open_exe(pid, file.is_unsettled))
            .or_else(|| self.promptly_opened(pid, boot_ns, file.is_unsettled))?;
        // Otherwise the process has moved on to another program.
        (content.key.inode == key.inode && content.key.size == key.size).then_some(content)
    }

    fn promptly_opened(&mut self, pid: u32, boot_ns: u64, is_unsettled: bool) -> Option<Content> {
        let program = self.prompt.take_program(pid, boot_ns)?;
        self.read_promptly_opened(&program, is_unsettled)
    }

    fn read_promptly_opened(&mut self, file: &OwnedFd, is_unsettled: bool) -> Option<Content> {
        let stat = loads::regular_file(file)?;
        loads::open(file, &stat, is_unsettled, &mut self.delivered)
    }

    /// Whether fanotify tells of executions on the mount that the program is on.
    pub(super) fn is_watched(&self, record: &ExecRecord) -> bool {
        self.marks.as_ref().is_some_and(|marks| {
            marks.is_watched(
                record.header.mnt_namespace,
                record.exec.file.mount_id,
                record.header.boot_ns,
            )
        })
    }

    pub(super) fn why_missing(&self, record: &ExecRecord, now: Instant) -> MissingReason {
        let file = &record.exec.file;
        if self
            .fanotify_lost
            .is_some_and(|lost| now.duration_since(lost) < Duration::from_secs(5))
        {
            MissingReason::NotificationLost
        } else if file.is_memfd || self.is_watched(record) {
            MissingReason::ProcessGone
        } else {
            MissingReason::NotWatched
        }
    }

    pub(super) fn exec_no_format(&mut self, pid: u32, mut content: Content) -> Result<(), Closed> {
        // When it was opened is not known. Where the sensor watches, nothing is opened by who is never announced.
        let Some(known) = self.known(pid, 0) else {
            return Ok(());
        };
        let cgroup = self.cgroups.get(&known.cgroup_id).cloned();
        let fd = self.delivered.deliver(&mut content);
        self.send_observation(Observation {
            event: Event {
                time: self.clock.wall(clock::boot_ns()),
                process: ProcessKey {
                    pid,
                    start_ns: known.start_ns,
                },
                cgroup,
                payload: Payload::ExecNoFormat {
                    file: Box::new(self.facts(&content, known.mnt_namespace)),
                },
            },
            file: fd,
            scripts: Vec::new(),
            named: None,
        })
    }
}
