//! Files opened for execution, by process, until the exec that opened them is seen.
//!
//! One execve opens, in this order: the script (and scripts that are its interpreter), the program, and the program
//! interpreter (`ld.so`). fanotify reports each of them before the exec itself is reported, and reports them also when
//! the exec fails. Repeats of the same process and file that are still in its queue are merged into the first.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;
use model::{Text, event::FileKey, limits::SCRIPTS_NESTED_MAX};
use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::{
    content::{Content, Kind},
    decode::ExecRecord,
};

/// Files remembered of one process: nested scripts, program, `ld.so`, and some failures.
const FILES_MAX: usize = SCRIPTS_NESTED_MAX + 7;

/// Processes remembered. At the full exec rate of two cores this is two tenths of a second.
const PROCESSES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How long an opened file waits for its exec.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a file of no known format waits for an exec that would show that binfmt_misc ran it.
const NO_FORMAT_WAIT: Duration = Duration::from_millis(10);

/// How long a script that is left waits for the next exec of its process, which may be behind a backlog of others.
const LEFT_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct OpenedFile {
    content: Content,
    opened: Instant,
    /// Part of an exec that was seen, or reported as one that failed. Kept for the repeats that fanotify merges.
    is_taken: bool,
    /// A script right behind those of an exec: of the next one; or of that one, whose scripts were changed meanwhile.
    is_left: bool,
}

impl OpenedFile {
    /// How long it waits for an exec. If none comes it is told by itself: somebody reads it, or it ran nested.
    fn wait(&self) -> Option<Duration> {
        match &self.content.kind {
            _ if self.is_taken => None,
            Kind::Other => Some(NO_FORMAT_WAIT),
            Kind::Script { .. } if self.is_left => Some(LEFT_WAIT),
            Kind::Script { .. } | Kind::Elf => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Opened {
    processes: LruCache<u32, VecDeque<OpenedFile>, FxBuildHasher>,
    /// Processes that may have opened something that waits.
    waiting: FxHashSet<u32>,
}

/// What one exec opened.
#[derive(Debug, Default)]
pub(crate) struct Match {
    pub(crate) file: Option<Content>,
    /// The script given to execve, the one that is its interpreter, and so on.
    pub(crate) scripts: Vec<Content>,
    /// What the process had tried before and could not run.
    pub(crate) failed: Vec<Content>,
}

impl Opened {
    pub(crate) fn new() -> Self {
        Self {
            processes: LruCache::with_hasher(PROCESSES_MAX, FxBuildHasher),
            waiting: FxHashSet::default(),
        }
    }

    /// A process opened a file for execution.
    pub(crate) fn push(&mut self, pid: u32, content: Content, now: Instant) {
        if content.kind == Kind::Other {
            self.waiting.insert(pid);
        }
        let files = self.processes.get_or_insert_mut(pid, VecDeque::new);
        if files.len() >= FILES_MAX {
            files.pop_front();
        }
        files.push_back(OpenedFile {
            content,
            opened: now,
            is_taken: false,
            is_left: false,
        });
    }

    /// Whether the program of an exec has been seen being opened.
    pub(crate) fn has(&self, record: &ExecRecord) -> bool {
        let files = self.processes.peek(&record.header.process.pid);
        files.into_iter().flatten().any(|file| {
            !file.is_taken && is_same_file(&file.content.key, record.exec.file.key.as_ref())
        })
    }

    /// The files that an exec opened. Of repeats the first that was not taken yet, or the one they were merged into.
    pub(crate) fn take(&mut self, record: &ExecRecord) -> Match {
        let mut found = Match::default();
        let Some(files) = self.processes.get_mut(&record.header.process.pid) else {
            return found;
        };
        let is_program =
            |file: &OpenedFile| is_same_file(&file.content.key, record.exec.file.key.as_ref());
        let program = files
            .iter()
            .position(|file| !file.is_taken && is_program(file))
            .or_else(|| files.iter().rposition(is_program));
        let end = program.unwrap_or(files.len());
        if record.interpreted
            && let Some(first) = script_position(files, end, record.exec.filename.file_name())
        {
            found.scripts = take_scripts(files, first, &record.interpreter);
            if files.iter().any(|file| file.is_left && !file.is_taken) {
                self.waiting.insert(record.header.process.pid);
            }
        }
        found.file = program.and_then(|position| take_at(files, position));
        // What was opened earlier and is no part of this exec belongs to one that failed. A program that failed is of no
        // further use, nor is a script, unless it is left.
        for position in 0..program.unwrap_or_default() {
            let Some(file) = files.get_mut(position) else {
                break;
            };
            if file.content.kind == Kind::Other {
                if !file.is_taken {
                    found.failed.extend(take_at(files, position));
                }
            } else if !file.is_left {
                file.is_taken = true;
                file.content.fd = None;
            }
        }
        found
    }

    /// What the process opened under this inode number: its `ld.so`.
    pub(crate) fn take_inode(&mut self, pid: u32, inode: u64, device: u64) -> Option<Content> {
        let files = self.processes.get_mut(&pid)?;
        let position = files.iter().rposition(|file| {
            file.content.key.inode == inode && file.content.key.device == device
        })?;
        take_at(files, position)
    }

    /// The files that no execve is known to have run, after a wait for one that could.
    pub(crate) fn failed(&mut self, now: Instant) -> Vec<(u32, Content)> {
        let mut failed = Vec::new();
        let processes = &mut self.processes;
        self.waiting.retain(|&pid| {
            let Some(files) = processes.get_mut(&pid) else {
                return false;
            };
            let mut is_waiting = false;
            for position in 0..files.len() {
                let Some(file) = files.get(position) else {
                    break;
                };
                let Some(wait) = file.wait() else {
                    continue;
                };
                if now.duration_since(file.opened) < wait {
                    is_waiting = true;
                } else {
                    failed.extend(take_at(files, position).map(|content| (pid, content)));
                }
            }
            is_waiting
        });
        failed
    }

    /// Whether [`Opened::failed`] has to be asked again.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A process ended: what it could not run.
    pub(crate) fn exited(&mut self, pid: u32) -> Vec<Content> {
        self.processes
            .pop(&pid)
            .into_iter()
            .flatten()
            .filter(|file| file.wait().is_some())
            .map(|file| file.content)
            .collect()
    }

    /// Forgets what no exec came for.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((_, files)) = self.processes.peek_lru()
            && files
                .back()
                .is_none_or(|file| now.duration_since(file.opened) > WAIT_MAX)
        {
            self.processes.pop_lru();
        }
    }
}

/// Device numbers are left out: `stat` on an overlay of several filesystems gives another one than the inode has. Times
/// are left out, since a link or an unlink after the exec changes them.
fn is_same_file(key: &FileKey, program: Option<&FileKey>) -> bool {
    program.is_some_and(|program| program.inode == key.inode && program.size == key.size)
}

/// The script before `end` by the name that execve was given; otherwise (symlinks, `/dev/fd/N`) the first of the
/// scripts that lead to the program.
fn script_position(files: &VecDeque<OpenedFile>, end: usize, name: &[u8]) -> Option<usize> {
    let is_named =
        |file: &OpenedFile| file.content.kind != Kind::Elf && file.content.path.file_name() == name;
    let by_name = files
        .iter()
        .take(end)
        .rposition(|file| !file.is_taken && is_named(file))
        .or_else(|| files.iter().rposition(is_named));
    by_name.or_else(|| {
        let chain = files
            .iter()
            .take(end)
            .rev()
            .take_while(|file| !file.is_taken && file.content.kind != Kind::Elf)
            .count();
        (chain > 0).then(|| end - chain)
    })
}

/// The script at `first` and those that are its interpreter: they were opened one after the other. The last of them is the one
/// that names the `interpreter`; what comes behind that may be the next that the process executes, since fanotify merges the
/// events of a program that interprets both. With binfmt_misc none names it.
fn take_scripts(
    files: &mut VecDeque<OpenedFile>,
    first: usize,
    interpreter: &Text,
) -> Vec<Content> {
    let is_script = |file: &&OpenedFile| file.content.kind != Kind::Elf;
    let scripts = || files.iter().skip(first).take_while(is_script);
    let names_it = |file: &OpenedFile| match &file.content.kind {
        Kind::Script { interpreter: named } => named == interpreter,
        Kind::Elf | Kind::Other => false,
    };
    let all = scripts().count();
    let count = scripts().position(names_it).map_or(all, |last| last + 1);
    for file in files.iter_mut().take(first + all).skip(first + count) {
        file.is_left = true;
    }
    (first..first + count.min(SCRIPTS_NESTED_MAX))
        .filter_map(|position| take_at(files, position))
        .collect()
}

fn take_at(files: &mut VecDeque<OpenedFile>, position: usize) -> Option<Content> {
    let file = files.get_mut(position)?;
    file.is_taken = true;
    Some(Content {
        fd: file.content.fd.take(),
        path: file.content.path.clone(),
        kind: file.content.kind.clone(),
        ..file.content
    })
}

#[cfg(test)]
mod tests {
    use model::event::ProcessKey;

    use super::*;

    const PID: u32 = 7;

    fn script(interpreter: &str) -> Kind {
        let interpreter = Text::from(interpreter);
        Kind::Script { interpreter }
    }

    fn opened(inode: u64, kind: Kind, path: &str) -> Content {
        let key = FileKey {
            device: 1,
            inode,
            size: 100,
            mtime_ns: 0,
            ctime_ns: 0,
        };
        Content {
            kind,
            path: Text::from(path),
            ..Content::known(key, 1)
        }
    }

    fn exec(inode: u64, script: Option<&str>) -> ExecRecord {
        let mut record = ExecRecord {
            interpreted: script.is_some(),
            ..ExecRecord::default()
        };
        record.header.process = ProcessKey {
            pid: PID,
            start_ns: 1,
        };
        // On an overlay the inode may tell another device than `stat`.
        record.exec.file.key = Some(FileKey {
            device: 99,
            ..opened(inode, Kind::Elf, "").key
        });
        record.exec.filename = Text::from(script.unwrap_or_default());
        record
    }

    /// Inode numbers of program and scripts that an exec finds.
    fn take(table: &mut Opened, record: &ExecRecord) -> (Option<u64>, Vec<u64>, usize) {
        let found = table.take(record);
        let inode = |content: Content| content.key.inode;
        let scripts = found.scripts.into_iter().map(inode).collect();
        (found.file.map(inode), scripts, found.failed.len())
    }

    #[test]
    fn an_exec_finds_its_program_and_its_script() {
        let now = Instant::now();
        let mut table = Opened::new();
        for (inode, kind, path) in [
            // A program that could not be run, and a file that no format is known for.
            (1, Kind::Elf, ""),
            (2, Kind::Other, "/notes"),
            // `/outer` is `#!/inner`, which is `#!/bin/sh`.
            (3, script("/inner"), "/outer"),
            (4, script("/bin/sh"), "/inner"),
            (5, Kind::Elf, ""),
            (6, Kind::Elf, ""),
            // The next exec of the same process.
            (8, script("/bin/sh"), "/dir/target"),
            (9, Kind::Elf, ""),
        ] {
            table.push(PID, opened(inode, kind, path), now);
        }
        assert!(table.has(&exec(5, Some("/outer"))));
        assert_eq!(
            take(&mut table, &exec(5, Some("/outer"))),
            (Some(5), vec![3, 4], 1)
        );
        // `ld.so`, opened after the program.
        assert_eq!(
            table.take_inode(PID, 6, 1).map(|content| content.key.inode),
            Some(6)
        );
        // By a link of another name.
        assert_eq!(
            take(&mut table, &exec(9, Some("/link"))),
            (Some(9), vec![8], 0)
        );
        // fanotify merged the event of a repeat into the first.
        assert!(!table.has(&exec(9, Some("/link"))));
        assert_eq!(take(&mut table, &exec(9, Some("/dir/target"))).0, Some(9));
        assert_eq!(take(&mut table, &exec(77, None)), (None, vec![], 0));
    }

    #[test]
    fn scripts_whose_event_was_merged_into_an_earlier_one_are_found_too() {
        let now = Instant::now();
        let mut table = Opened::new();
        for (inode, kind, path) in [
            (1, script("/inner"), "/outer"),
            (2, script("/bin/sh"), "/inner"),
            (3, Kind::Elf, ""),
        ] {
            table.push(PID, opened(inode, kind, path), now);
        }
        for _ in 0..2 {
            assert_eq!(
                take(&mut table, &exec(3, Some("/outer"))),
                (Some(3), vec![1, 2], 0)
            );
        }
        // Another script of the same program, which is in the queue already.
        table.push(PID, opened(4, script("/bin/sh"), "/other"), now);
        assert_eq!(
            take(&mut table, &exec(3, Some("/other"))),
            (Some(3), vec![4], 0)
        );
    }

    #[test]
    fn scripts_of_one_interpreter_that_follow_each_other_are_not_nested() {
        let now = Instant::now();
        let mut table = Opened::new();
        for (inode, kind, path) in [
            (1, script("/bin/sh"), "/first"),
            // All its later events were merged into this one.
            (2, Kind::Elf, ""),
            (3, script("/bin/sh"), "/second"),
            (4, script("/inner"), "/outer"),
            (5, script("/bin/sh"), "/inner"),
            (6, script("/bin/sh"), "/last"),
        ] {
            table.push(PID, opened(inode, kind, path), now);
        }
        for (name, scripts) in [
            ("/first", vec![1]),
            ("/second", vec![3]),
            ("/outer", vec![4, 5]),
            ("/last", vec![6]),
        ] {
            let mut record = exec(2, Some(name));
            record.interpreter = Text::from("/bin/sh");
            assert_eq!(take(&mut table, &record), (Some(2), scripts, 0), "{name}");
        }
    }

    #[test]
    fn a_script_between_an_execs_own_and_its_program_is_not_lost() {
        let now = Instant::now();
        let mut table = Opened::new();
        let exec = |name| {
            let mut record = exec(2, Some(name));
            record.interpreter = Text::from("/bin/sh");
            record
        };
        // Of the next exec, whose interpreter is told of by the same event.
        table.push(PID, opened(1, script("/bin/sh"), "/first"), now);
        table.push(PID, opened(3, script("/bin/sh"), "/second"), now);
        table.push(PID, opened(2, Kind::Elf, ""), now);
        assert_eq!(take(&mut table, &exec("/first")), (Some(2), vec![1], 0));
        assert_eq!(take(&mut table, &exec("/second")), (Some(2), vec![3], 0));
        assert!(table.failed(now + LEFT_WAIT).is_empty());

        // Of the same exec: `/outer` was `#!/inner` then, and looks like `#!/bin/sh` now.
        table.push(PID, opened(4, script("/bin/sh"), "/outer"), now);
        table.push(PID, opened(5, script("/bin/sh"), "/inner"), now);
        table.push(PID, opened(2, Kind::Elf, ""), now);
        assert_eq!(take(&mut table, &exec("/outer")), (Some(2), vec![4], 0));
        assert!(table.failed(now + NO_FORMAT_WAIT).is_empty() && table.is_waiting());
        let left = table.failed(now + LEFT_WAIT);
        assert_eq!(left[0].1.key.inode, 5);
        assert!(!table.is_waiting() && table.exited(PID).is_empty());

        // Likewise, with an interpreter that nobody tells of any more, and the end of the process before that.
        let mut table = Opened::new();
        table.push(PID, opened(4, script("/bin/sh"), "/outer"), now);
        table.push(PID, opened(5, script("/bin/sh"), "/inner"), now);
        assert_eq!(take(&mut table, &exec("/outer")), (None, vec![4], 0));
        let left = table.exited(PID);
        assert_eq!(left[0].key.inode, 5);
    }

    #[test]
    fn a_file_without_format_is_reported_when_nothing_ran_it() {
        let now = Instant::now();
        let mut table = Opened::new();
        table.push(PID, opened(1, Kind::Other, "/handled"), now);
        table.push(PID, opened(2, Kind::Elf, ""), now);
        // binfmt_misc ran it.
        assert_eq!(
            take(&mut table, &exec(2, Some("/handled"))),
            (Some(2), vec![1], 0)
        );
        assert!(table.failed(now + NO_FORMAT_WAIT).is_empty());

        table.push(PID, opened(3, Kind::Other, "/notes"), now);
        assert!(table.failed(now).is_empty());
        assert!(table.is_waiting());
        let failed = table.failed(now + NO_FORMAT_WAIT);
        assert_eq!(failed.len(), 1);
        assert!(!table.is_waiting());

        table.push(PID, opened(4, Kind::Other, "/last"), now);
        assert_eq!(table.exited(PID).len(), 1);
    }

    #[test]
    fn many_processes_do_not_make_it_grow() {
        let now = Instant::now();
        let mut table = Opened::new();
        for pid in 0..3 * 4096 {
            for inode in 0..20 {
                table.push(pid, opened(inode, Kind::Elf, ""), now);
            }
        }
        assert_eq!(table.processes.len(), PROCESSES_MAX.get());
        assert!(
            table
                .processes
                .iter()
                .all(|(_, files)| files.len() <= FILES_MAX)
        );
        table.expire(now + 2 * WAIT_MAX);
        assert!(table.processes.is_empty());
    }
}
