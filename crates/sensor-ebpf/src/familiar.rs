//! Programs that run all the time, and their program interpreters (`ld.so`), which fanotify need not tell of.
//!
//! Each event of fanotify costs a descriptor: a fifth of all that the sensor does when programs of a moment run one after the
//! other. So the inode of one that has been run some dozens of times is ignored. Nothing rests on fanotify alone then:
//!
//! * A write to the file ends that by itself (`FAN_MARK_IGNORED_MASK` without `FAN_MARK_IGNORED_SURV_MODIFY`).
//! * A write through a mapping does not, but it changes the file's times. The probe compares them, and has the file opened promptly
//!   when they are others (see `prompt.rs`); `ld.so` is looked for where it is mapped, and by its path, as other libraries are. Only
//!   files whose times the probe sees as they are can become familiar.
//! * A script needs no event of its interpreter: it says itself which one it has (see `opened.rs`).
//!
//! To take back a single mark needs the file, which may be gone: all are taken back at once, and earned again.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;
use model::event::FileKey;
use rustc_hash::FxHashMap;

use crate::content::Content;

/// Runs after which a program is familiar.
const RUNS_MIN: u32 = 64;

/// Programs whose runs are counted.
const COUNTED_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Programs that fanotify does not tell of; the probes have room for twice as many, for those that it tells of again.
const UNTOLD_MAX: usize = 1024;

/// Longest that an exec is under way: the probe compares that of a file that was opened before the marks were taken back.
const EXEC_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Untold {
    key: FileKey,
    /// When fanotify was asked to tell of it again.
    told_since: Option<Instant>,
}

/// What is known of an executed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Fanotify tells of it.
    Told,
    /// Fanotify does not tell of it, or did not until a moment ago.
    Untold,
    /// The same, but of the file as it was: it has changed.
    Changed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Familiar {
    /// A container chooses times and sizes: the hash is a keyed one.
    runs: LruCache<FileKey, u32>,
    /// By device and inode number.
    untold: FxHashMap<(u64, u64), Untold>,
}

impl Familiar {
    pub(crate) fn new() -> Self {
        Self {
            runs: LruCache::new(COUNTED_MAX),
            untold: FxHashMap::default(),
        }
    }

    /// A program ran. `seen` is what the probe says of it.
    ///
    /// On an overlay of several filesystems that is another device than `stat` says, and which inode is meant is not certain once a
    /// device number is given to the next: no program there becomes familiar.
    pub(crate) fn ran(&mut self, seen: &FileKey, content: &Content) {
        if content.is_settled && !content.is_overload && *seen == content.key && self.is_told(seen)
        {
            let runs = self.runs.get_or_insert_mut(*seen, || 0);
            *runs = runs.saturating_add(1);
        }
    }

    /// Whether fanotify need not tell any more of a file that was opened for execution.
    pub(crate) fn is_due(&self, key: &FileKey) -> bool {
        self.runs.peek(key).is_some_and(|runs| *runs >= RUNS_MIN)
    }

    /// Whether there is room for it among those that fanotify does not tell of.
    pub(crate) fn has_room(&self, key: &FileKey) -> bool {
        self.untold.len() < UNTOLD_MAX || self.untold.contains_key(&(key.device, key.inode))
    }

    /// Fanotify does not tell of it from now on.
    pub(crate) fn leave_untold(&mut self, key: FileKey) {
        let told_since = None;
        self.untold
            .insert((key.device, key.inode), Untold { key, told_since });
    }

    /// What is known of a program that ran.
    pub(crate) fn state(&self, seen: &FileKey) -> State {
        match self.untold.get(&(seen.device, seen.inode)) {
            None => State::Told,
            Some(untold) if untold.key == *seen => State::Untold,
            Some(_) => State::Changed,
        }
    }

    /// Those that fanotify does not tell of.
    pub(crate) fn untold(&self) -> impl Iterator<Item = &FileKey> {
        self.untold
            .values()
            .filter(|untold| untold.told_since.is_none())
            .map(|untold| &untold.key)
    }

    /// Whether fanotify tells of a file again, or always did.
    pub(crate) fn is_told(&self, seen: &FileKey) -> bool {
        let untold = self.untold.get(&(seen.device, seen.inode));
        untold.is_none_or(|untold| untold.told_since.is_some())
    }

    /// Fanotify is to tell of all of them again. False when it does already.
    pub(crate) fn tell_all(&mut self, now: Instant) -> bool {
        let mut is_news = false;
        for untold in self.untold.values_mut() {
            is_news |= untold.told_since.is_none();
            untold.told_since.get_or_insert(now);
        }
        if is_news {
            self.runs.iter_mut().for_each(|(_, runs)| *runs = 0);
        }
        is_news
    }

    /// Those that the probes need not look for any more.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<FileKey> {
        let is_over = |untold: &Untold| {
            untold
                .told_since
                .is_some_and(|since| now.duration_since(since) > EXEC_MAX)
        };
        self.untold
            .extract_if(|_, untold| is_over(untold))
            .map(|(_, untold)| untold.key)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(inode: u64, mtime_ns: i64) -> FileKey {
        FileKey {
            device: 1,
            inode,
            size: 1,
            mtime_ns,
            ctime_ns: mtime_ns,
        }
    }

    fn run(table: &mut Familiar, key: FileKey, times: u32) {
        for _ in 0..times {
            table.ran(&key, &Content::known(key, 1));
        }
    }

    #[test]
    fn what_runs_all_the_time_is_left_untold_until_it_changes() {
        let now = Instant::now();
        let mut table = Familiar::new();
        let (old, new) = (program(1, 1), program(1, 2));
        run(&mut table, old, RUNS_MIN - 1);
        assert!(!table.is_due(&old));
        run(&mut table, old, 1);
        assert!(table.is_due(&old) && table.has_room(&old));
        table.leave_untold(old);
        assert_eq!(table.state(&old), State::Untold);
        assert_eq!(table.state(&new), State::Changed);
        assert_eq!(table.state(&program(2, 2)), State::Told);

        // What was executed before that is known still.
        assert!(table.tell_all(now) && !table.tell_all(now));
        assert_eq!(table.state(&old), State::Untold);
        assert!(table.untold().next().is_none() && !table.is_due(&old));
        assert!(table.expire(now + EXEC_MAX).is_empty());
        assert_eq!(table.expire(now + 2 * EXEC_MAX), [old]);
        assert_eq!(table.state(&old), State::Told);
    }

    #[test]
    fn nothing_of_another_device_is_left_untold() {
        let mut table = Familiar::new();
        let (seen, by_stat) = (program(2, 1), program(2, 1));
        let seen = FileKey { device: 2, ..seen };
        for _ in 0..2 * RUNS_MIN {
            table.ran(&seen, &Content::known(by_stat, 1));
        }
        assert!(!table.is_due(&by_stat) && !table.is_due(&seen));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut table = Familiar::new();
        for inode in 0..UNTOLD_MAX as u64 {
            table.leave_untold(program(inode, 1));
        }
        assert!(!table.has_room(&program(UNTOLD_MAX as u64, 1)));
        assert!(table.has_room(&program(0, 2)));
    }
}
