//! Has the files of drafts judged: at once where that is quick, by the thread for large files otherwise.

use std::{cell::OnceCell, os::fd::OwnedFd, sync::Arc};

use model::{
    Text,
    enriched::{Container, EnrichedEvent},
    event::{FileFacts, LossSource},
    limits::HASH_REPEATS_MAX,
    provenance::{MissingReason, Provenance, UnknownReason},
};

use super::Enricher;
use crate::{
    draft::{FileId, Part, Place, Slot, Wanted},
    file_facts::{Fallback, complete_facts},
    judge::{Bytes, Judged, Request},
    slow::Submitted,
};

impl Enricher {
    /// Takes in the files that were judged meanwhile.
    pub(super) fn take_judged(&mut self, out: &mut Vec<EnrichedEvent>) {
        while let Some((ticket, judged)) = self.displaced.pop().or_else(|| self.slow.take_done()) {
            let Some(wanted) = self.tickets.remove(&ticket) else {
                continue;
            };
            let key = wanted.id.as_ref().map(|id| id.key);
            let others = key.and_then(|key| self.reading.remove(&key));
            let content = others.as_ref().map(|_| judged.content());
            self.remember(wanted.id.as_ref(), &judged);
            self.fill(&wanted, judged, out);
            for (wanted, mut request) in others.into_iter().flatten() {
                match request.bytes {
                    // Found in the cache now if nothing can have changed unseen, read by itself otherwise.
                    Bytes::Reading(_) => self.reading_descriptors -= 1,
                    Bytes::Known(_) | Bytes::Descriptor(_) => {}
                    // What has none of its own was read with the first, or cannot be.
                    Bytes::Missing(_) => {
                        request.bytes = match &content {
                            Some(Ok(content)) => Bytes::Known(Arc::clone(content)),
                            Some(Err(reason)) => Bytes::Missing(*reason),
                            None => Bytes::Missing(MissingReason::ReadFailed),
                        };
                    }
                }
                if let Slot::Ready(judged) = self.judge_or_queue(wanted.clone(), *request) {
                    self.fill(&wanted, judged, out);
                }
            }
        }
    }

    /// One more file of a parked draft is known.
    fn fill(&mut self, wanted: &Wanted, judged: Judged, out: &mut Vec<EnrichedEvent>) {
        if let Some(mut draft) = self.unpark(wanted.draft) {
            draft.set(wanted.part, judged);
            self.go_on(wanted.draft, draft, out);
        }
    }

    /// Judges a file now, or has it judged for a draft.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn file(
        &mut self,
        draft: u64,
        part: Part,
        place: &Place,
        mut facts: FileFacts,
        used: Option<Text>,
        fd: Option<OwnedFd>,
        fallback: Fallback,
    ) -> Slot {
        let links_seen = facts.link_count;
        // Tells nothing of the bytes otherwise.
        let key = facts.key.filter(|_| !facts.is_unsettled);
        let mut path_used = used.filter(|used| !used.is_empty() && *used != facts.path);
        let id = key.map(|key| FileId {
            container: place.number,
            key,
            mount_id: facts.mount_id,
            mnt_namespace: place.mnt_namespace,
            is_unnamed: facts.link_count == 0,
            path: std::mem::take(&mut facts.path),
            path_used: path_used.take(),
        });
        if let Some(id) = &id {
            // Nearly always: nothing is copied for it.
            if let Some(judged) = self.files.get(id) {
                return Slot::Ready(judged.clone());
            }
            facts.path.clone_from(&id.path);
            path_used.clone_from(&id.path_used);
        }
        let known = key.and_then(|key| self.judge.cache.get(&key));
        let bytes = match (known, fd) {
            (Some(content), fd) => {
                fd.inspect(|fd| complete_facts(place.pid, &mut facts, fd));
                Bytes::Known(content)
            }
            (None, Some(fd)) => {
                complete_facts(place.pid, &mut facts, &fd);
                Bytes::Descriptor(fd)
            }
            (None, None) if key.is_some_and(|key| self.reading.contains_key(&key)) => {
                Bytes::Missing(facts.missing.unwrap_or(MissingReason::ProcessGone))
            }
            (None, None) => self.bytes_without_descriptor(place.pid, &mut facts, fallback),
        };
        // A process that has ended has no mounts any more; who started it sees the same ones as a rule.
        let ancestors = std::iter::successors(place.parent, |&key| self.processes.parent(key));
        let pids = std::iter::once(place.pid).chain(ancestors.map(|key| key.pid));
        let mounts = self
            .states
            .mounts(place.number, place.mnt_namespace, pids, &facts);
        let request = Request {
            root: Some(Arc::clone(&place.root)),
            mounts,
            facts,
            path_used,
            links_seen,
            bytes,
            verdict: OnceCell::new(),
            listed_since: None,
        };
        let wanted = Wanted {
            draft,
            part,
            container: Arc::clone(&place.container),
            id,
        };
        if matches!(request.bytes, Bytes::Missing(_))
            && let Some(others) = key.and_then(|key| self.reading.get_mut(&key))
            && self.parked_shares.has_room(&place.container.id)
        {
            others.push((wanted, Box::new(request)));
            return Slot::Waiting;
        }
        self.judge_or_queue(wanted, request)
    }

    fn judge_or_queue(&mut self, wanted: Wanted, request: Request) -> Slot {
        let request = match self.judge.fast(request, &mut self.block) {
            Ok(judged) => {
                self.remember(wanted.id.as_ref(), &judged);
                return Slot::Ready(judged);
            }
            Err(request) => request,
        };
        let is_room = self.parked_shares.has_room(&wanted.container.id);
        // The same bytes are being read, or compared with the image's: a program that is run many times asks once. What may
        // be other bytes in spite of the same key keeps its descriptor.
        let keeps = matches!(&request.bytes, Bytes::Reading(reading) if !reading.is_settled());
        if is_room
            && (!keeps || self.reading_descriptors < HASH_REPEATS_MAX)
            && let Some(id) = &wanted.id
            && let Some(others) = self.reading.get_mut(&id.key)
        {
            let mut request = request;
            if keeps {
                self.reading_descriptors += 1;
            } else if matches!(request.bytes, Bytes::Reading(_)) {
                // One descriptor for them all.
                request.bytes = Bytes::Missing(MissingReason::Overload);
            }
            others.push((wanted, request));
            return Slot::Waiting;
        }
        let submitted = if is_room {
            self.slow.submit(&wanted.container.id, request)
        } else {
            Err(request)
        };
        match submitted {
            Ok(Submitted { ticket, displaced }) => {
                if let Some(id) = &wanted.id {
                    self.reading.entry(id.key).or_default();
                }
                let container = Arc::clone(&wanted.container);
                self.tickets.insert(ticket, wanted);
                if let Some((ticket, request)) = displaced {
                    let judged = self.overloaded(&container, *request);
                    self.displaced.push((ticket, judged));
                }
                Slot::Waiting
            }
            Err(request) => Slot::Ready(self.overloaded(&wanted.container, *request)),
        }
    }

    /// Judges without what is not known yet, and counts that.
    pub(super) fn overloaded(&mut self, container: &Arc<Container>, request: Request) -> Judged {
        let judged = self.judge.overloaded(request, &mut self.block);
        // Without its hash it will be counted as such.
        if judged.file.sha256().is_some() {
            self.losses.lost(Some(container), LossSource::Queue, 1);
        }
        judged
    }

    /// The sensor holds this content for known, or could not open it: what can still be had.
    fn bytes_without_descriptor(
        &self,
        pid: u32,
        facts: &mut FileFacts,
        fallback: Fallback,
    ) -> Bytes {
        if let Some(content) = facts
            .key
            .filter(|_| !facts.is_unsettled)
            .and_then(|key| self.judge.cache.get_unsettled(&key))
        {
            return Bytes::Known(content);
        }
        match fallback.open(pid, facts) {
            Some(fd) => {
                complete_facts(pid, facts, &fd);
                Bytes::Descriptor(fd)
            }
            None => Bytes::Missing(facts.missing.unwrap_or(MissingReason::ProcessGone)),
        }
    }

    /// Keeps a judgement that will be the same next time.
    fn remember(&mut self, id: Option<&FileId>, judged: &Judged) {
        let Some(id) = id.filter(|id| self.judge.cache.get(&id.key).is_some()) else {
            return;
        };
        let is_lasting = match judged.file.provenance {
            Provenance::BuiltIn | Provenance::Modified | Provenance::Added => true,
            Provenance::Unknown(reason) => reason == UnknownReason::NoImage,
        };
        if is_lasting && judged.file.sha256().is_some() {
            let bytes = id.weight(&judged.file);
            self.files.put(id.clone(), judged.clone(), bytes);
        }
    }
}
