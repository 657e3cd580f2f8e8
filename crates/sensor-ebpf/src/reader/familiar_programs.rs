//! What fanotify tells of, and no longer: see `familiar.rs`.

use std::{os::fd::OwnedFd, time::Instant};

use model::event::FileKey;

use crate::{content::Content, decode::Seen, familiar::State, sys};

use super::Reader;

impl Reader {
    /// Has fanotify not tell of a program any more.
    pub(super) fn leave_untold(&mut self, key: FileKey, file: OwnedFd, now: Instant) {
        let Some(marks) = &self.marks else {
            return;
        };
        // The probe has to know first, and forgets last.
        if !self.familiar.has_room(&key) || !self.probes.expect(&key) {
            self.tell_all(now);
        } else {
            self.familiar.leave_untold(key);
            if sys::fanotify_ignore(marks.group(), &file).is_err() {
                self.tell_all(now);
            }
        }
    }

    /// A file was mapped executable. If it is the program interpreter of an exec, that has opened it, too.
    pub(super) fn loaded(&mut self, seen: &Seen, content: Option<&Content>) {
        if !self.is_known_untold(seen.key) {
            self.tell_again(&seen.key, Instant::now());
        }
        if let Some(content) = content.filter(|_| seen.is_stamped_loader) {
            self.familiar.ran(&seen.key, content);
        }
    }

    /// Whether fanotify does not tell of a file whose bytes are known.
    pub(super) fn is_known_untold(&mut self, seen: FileKey) -> bool {
        self.familiar.state(&seen) == State::Untold && self.delivered.contains(&seen)
    }

    /// A file that fanotify does not tell of has changed, or its bytes are not known any more.
    pub(super) fn tell_again(&mut self, seen: &FileKey, now: Instant) {
        if !self.familiar.is_told(seen) {
            self.tell_all(now);
        }
    }

    /// So many other files have come that one of them is forgotten: its bytes would not be there with its next run.
    pub(super) fn tell_what_is_forgotten(&mut self, now: Instant) {
        let delivered = &self.delivered;
        if self.familiar.untold().any(|key| !delivered.remembers(key)) {
            self.tell_all(now);
        }
    }

    /// Has fanotify tell of all programs again.
    pub(super) fn tell_all(&mut self, now: Instant) {
        if self.familiar.tell_all(now)
            && let Some(marks) = &self.marks
        {
            // Cannot fail; the probes would still tell of a change.
            let _ = sys::fanotify_ignore_none(marks.group());
        }
    }
}
