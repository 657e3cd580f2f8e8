//! From a file as a sensor saw it to a [`File`]: its bytes, the verdict on them, and who knows them.
//!
//! Works in two paces. The fast one does what takes well below a millisecond and gives up otherwise; the slow one, on a
//! thread of its own, does the rest of the same work.

use std::{
    cell::OnceCell,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use model::{
    Text,
    enriched::{self, File, FileKind, IndicatorMatch},
    event::FileFacts,
    limits::{HASH_INLINE_BYTES_MAX, LISTING_TIME_MAX},
    provenance::{Evidence, MissingReason, Provenance, Sha256, UnknownReason},
};

use rustix::fs::fstat;

use crate::{
    file_kind::Interpreter,
    hash::{Block, Cache, Content, Progress, Reading, read_whole},
    proc::key_of,
    provenance::{
        ContentIndex, Image, ImageFile, Location, MountTable, Original, RootFs, Verdict, compare,
        judge,
    },
};

/// Threat intelligence, asked for each digest that is seen.
pub trait Scanner {
    /// Indicators that know these bytes.
    fn matches(&self, sha256: &Sha256) -> Vec<IndicatorMatch>;

    /// Times so far that a list could not be read, so that its indicators were not asked.
    fn failures(&self) -> u64 {
        0
    }
}

/// A file that is to be judged.
pub(crate) struct Request {
    /// The container's root; `None` when the process is in no container.
    pub(crate) root: Option<Arc<RootFs>>,
    pub(crate) mounts: Option<Arc<MountTable>>,
    /// With `path` and `mount_id` as far as they could be made out.
    pub(crate) facts: FileFacts,
    pub(crate) path_used: Option<Text>,
    /// Names that the file had when its key was taken; the facts have those of now.
    pub(crate) links_seen: u32,
    pub(crate) bytes: Bytes,
    /// What the image ships there.
    pub(crate) verdict: OnceCell<Verdict>,
    /// Since when the image is listed for it.
    pub(crate) listed_since: Option<Instant>,
}

impl Request {
    /// Bytes that are still to be read of the file, as far as its size tells. `None` when they are known or cannot be had.
    pub(crate) fn bytes_left(&self) -> Option<u64> {
        match &self.bytes {
            Bytes::Reading(reading) => {
                Some(reading.key().size.saturating_sub(reading.bytes_read()))
            }
            _ => None,
        }
    }

    /// Whether it may wait for another turn of listing.
    fn has_time(&self) -> bool {
        self.listed_since
            .is_some_and(|since| since.elapsed() < LISTING_TIME_MAX)
    }

    /// Looked up when it is first asked for, before the bytes are read: an engine deletes a container's own layers soon after
    /// it has ended.
    fn verdict(&self) -> &Verdict {
        self.verdict.get_or_init(|| {
            let facts = &self.facts;
            let Some(root) = &self.root else {
                let reason = UnknownReason::NotInContainer;
                return Verdict::Final(Provenance::Unknown(reason), Evidence::default());
            };
            let mounts = self.mounts.as_deref();
            let location = Location {
                path: facts.path.as_bytes(),
                is_path_truncated: facts.path_truncated,
                mount: mounts.and_then(|mounts| match facts.mount_id {
                    0 => mounts.of_path(facts.path.as_bytes()),
                    id => mounts.by_id(id),
                }),
                device: facts.key.map(|key| key.device),
                filesystem: facts.filesystem.as_bytes(),
                is_memfd: facts.is_memfd,
                is_unnamed: facts.key.is_some() && facts.link_count == 0,
            };
            judge(root, &location)
        })
    }

    /// The file is still as the kernel saw it at exec, as far as its metadata can tell. ctime alone also changes when a name is
    /// added or taken away, which programs that are dropped, run and deleted do; whoever writes to one, puts its mtime back
    /// and deletes it goes unnoticed.
    fn is_as_seen(&self, reading: &Reading) -> bool {
        let now = reading.key();
        self.facts.key.is_none_or(|seen| {
            (seen.size, seen.mtime_ns) == (now.size, now.mtime_ns)
                && (seen.ctime_ns == now.ctime_ns || self.links_seen != reading.link_count())
        })
    }

    fn content(&self) -> Option<&Content> {
        match &self.bytes {
            Bytes::Known(content) => Some(content),
            _ => None,
        }
    }
}

/// Where the bytes come from.
pub(crate) enum Bytes {
    Descriptor(OwnedFd),
    Reading(Box<Reading>),
    Known(Arc<Content>),
    Missing(MissingReason),
}

/// A judged file.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) file: Arc<File>,
    pub(crate) interpreter: Option<Interpreter>,
}

impl Judged {
    /// What is known of the bytes, for others who want the same.
    pub(crate) fn content(&self) -> Result<Arc<Content>, MissingReason> {
        match self.file.content {
            enriched::Content::Missing { reason } => Err(reason),
            enriched::Content::Known { sha256, size } => Ok(Arc::new(Content {
                sha256,
                size,
                kind: self.file.kind,
                interpreter: self.interpreter,
                contents: self.file.contents.clone(),
            })),
        }
    }
}

/// See the module.
pub(crate) struct Judge {
    pub(crate) cache: Cache,
    index: ContentIndex,
    scanner: Mutex<Box<dyn Scanner + Send>>,
    hash_bytes_max: u64,
    same_content_for_all_added: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// What takes long is given back.
    Fast,
    Slow,
    /// What takes long is left out.
    Overloaded,
}

/// Where in the image the bytes of an added file are.
enum Origin {
    At(Text),
    Nowhere,
    /// Nowhere in what has been listed of the image, which is not all.
    NotListed,
}

impl Judge {
    pub(crate) fn new(
        scanner: Box<dyn Scanner + Send>,
        hash_bytes_max: u64,
        same_content_for_all_added: bool,
    ) -> Self {
        Self {
            cache: Cache::default(),
            index: ContentIndex::default(),
            scanner: Mutex::new(scanner),
            hash_bytes_max,
            same_content_for_all_added,
        }
    }

    /// Judges at once, or gives the request back when that would take long.
    pub(crate) fn fast(
        &self,
        mut request: Request,
        block: &mut Block,
    ) -> Result<Judged, Box<Request>> {
        request.verdict();
        if let Bytes::Descriptor(fd) = request.bytes {
            request.bytes = match Reading::new(fd) {
                Err(reason) => Bytes::Missing(reason),
                Ok(reading) => Bytes::Reading(Box::new(reading)),
            };
        }
        if let Bytes::Reading(reading) = &mut request.bytes {
            let size = reading.key().size;
            let known = (!request.facts.is_unsettled).then(|| self.cache.get(&reading.key()));
            if let Some(content) = known.flatten() {
                self.end(&mut request, Ok(content));
            } else if size > self.hash_bytes_max {
                request.bytes = Bytes::Missing(MissingReason::TooLarge);
            } else if size > HASH_INLINE_BYTES_MAX {
                return Err(Box::new(request));
            } else {
                match reading.advance(HASH_INLINE_BYTES_MAX, block) {
                    // It grew meanwhile.
                    Progress::More => return Err(Box::new(request)),
                    Progress::Done(result) => self.end(&mut request, result),
                }
            }
        }
        self.complete(&request, Pace::Fast, block)
            .ok_or(Box::new(request))
    }

    /// Reads about `budget` bytes more, or lists more of the image; the answer when that was the last.
    pub(crate) fn slow(
        &self,
        request: &mut Request,
        budget: u64,
        block: &mut Block,
    ) -> Option<Judged> {
        if let Bytes::Reading(reading) = &mut request.bytes {
            match reading.advance(budget, block) {
                // Whoever makes it grow must not keep it from ending.
                Progress::More if reading.bytes_read() > self.hash_bytes_max => {
                    request.bytes = Bytes::Missing(MissingReason::TooLarge);
                }
                Progress::More => return None,
                Progress::Done(result) => self.end(request, result),
            }
        }
        request.listed_since.get_or_insert_with(Instant::now);
        self.complete(request, Pace::Slow, block)
    }

    /// The answer for a file that nobody has time for: with the bytes when they were read already, but without anything
    /// that would still take long.
    pub(crate) fn overloaded(&self, mut request: Request, block: &mut Block) -> Judged {
        if matches!(request.bytes, Bytes::Descriptor(_) | Bytes::Reading(_)) {
            request.bytes = Bytes::Missing(MissingReason::Overload);
        }
        if let Some(judged) = self.complete(&request, Pace::Overloaded, block) {
            return judged;
        }
        // The image's own copy is too large to be read now.
        let verdict = (
            Provenance::Unknown(UnknownReason::ImageUnreadable),
            Evidence::default(),
        );
        let content = request.content();
        let matches = content.map_or_else(Vec::new, |content| self.matches(&content.sha256));
        self.file(&request, content, matches, verdict)
    }

    /// Remembers what was read. When the file has changed since the kernel saw it, the bytes may not be those that ran: they
    /// count only if threat intelligence knows them.
    fn end(&self, request: &mut Request, result: Result<Arc<Content>, MissingReason>) {
        let Bytes::Reading(reading) = &request.bytes else {
            return;
        };
        let is_as_seen = request.is_as_seen(reading);
        request.bytes = match result {
            Err(reason) => Bytes::Missing(reason),
            Ok(content) => {
                let alias = request
                    .facts
                    .key
                    .filter(|seen| seen.ctime_ns == reading.key().ctime_ns);
                if !request.facts.is_unsettled {
                    self.cache
                        .put(reading, alias.filter(|_| is_as_seen), &content);
                }
                if is_as_seen || !self.matches(&content.sha256).is_empty() {
                    Bytes::Known(content)
                } else {
                    Bytes::Missing(MissingReason::ChangedSince)
                }
            }
        };
    }

    /// Everything but reading the file itself. `None` when that would be slow and `pace` is fast, or takes another turn.
    fn complete(&self, request: &Request, pace: Pace, block: &mut Block) -> Option<Judged> {
        let shipped = self.shipped(request, pace, block)?;
        let content = request.content().or(shipped.as_deref());
        let matches = content.map_or_else(Vec::new, |content| self.matches(&content.sha256));
        let (provenance, mut evidence) = self.verdict(request, content, pace, block)?;
        let wants_origin = !matches.is_empty() || self.same_content_for_all_added;
        if provenance == Provenance::Added
            && wants_origin
            && let (Some(root), Some(content)) = (&request.root, content)
        {
            evidence.same_content_as = match pace {
                Pace::Fast => return None,
                Pace::Slow => match self.same_content(&root.image, content, block) {
                    Origin::NotListed if request.has_time() => return None,
                    Origin::NotListed | Origin::Nowhere => None,
                    Origin::At(path) => Some(path),
                },
                Pace::Overloaded => None,
            };
        }
        Some(self.file(request, content, matches, (provenance, evidence)))
    }

    /// What ran, when its bytes could not be had but it was the image's own file, which a change copies and leaves as it is. In
    /// the container nobody can give another file its ctime. `None` when that is too large for the fast pace.
    fn shipped(
        &self,
        request: &Request,
        pace: Pace,
        block: &mut Block,
    ) -> Option<Option<Arc<Content>>> {
        let Bytes::Missing(_) = request.bytes else {
            return Some(None);
        };
        let (Some(seen), Verdict::CompareWith(Original::File(file), _)) =
            (request.facts.key, request.verdict())
        else {
            return Some(None);
        };
        let is_it = fstat(&file.fd).is_ok_and(|stat| {
            let shipped = key_of(&stat);
            (seen.size, seen.mtime_ns, seen.ctime_ns)
                == (shipped.size, shipped.mtime_ns, shipped.ctime_ns)
        });
        if is_it {
            self.image_content(file, pace, block)
        } else {
            Some(None)
        }
    }

    fn verdict(
        &self,
        request: &Request,
        content: Option<&Content>,
        pace: Pace,
        block: &mut Block,
    ) -> Option<(Provenance, Evidence)> {
        let (original, mut evidence) = match request.verdict() {
            Verdict::Final(provenance, evidence) => return Some((*provenance, evidence.clone())),
            Verdict::CompareWith(original, evidence) => (original, evidence.clone()),
        };
        let sha256 = match original {
            Original::Digest(sha256) => *sha256,
            Original::File(file) => match self.image_content(file, pace, block)? {
                Some(content) => content.sha256,
                None => {
                    let reason = UnknownReason::ImageUnreadable;
                    return Some((Provenance::Unknown(reason), evidence));
                }
            },
        };
        evidence.image_sha256 = Some(sha256);
        Some((compare(content, sha256), evidence))
    }

    /// `None` when it is too large for the fast pace, `Some(None)` when it cannot be read.
    fn image_content(
        &self,
        file: &ImageFile,
        pace: Pace,
        block: &mut Block,
    ) -> Option<Option<Arc<Content>>> {
        let Ok(fd) = file.fd.try_clone() else {
            return Some(None);
        };
        let Ok(mut reading) = Reading::new(fd) else {
            return Some(None);
        };
        if let Some(content) = self.cache.get(&reading.key()) {
            return Some(Some(content));
        }
        let (size, budget) = match pace {
            Pace::Slow => (self.hash_bytes_max, u64::MAX),
            Pace::Fast | Pace::Overloaded => (HASH_INLINE_BYTES_MAX, HASH_INLINE_BYTES_MAX),
        };
        if reading.key().size > self.hash_bytes_max {
            return Some(None);
        }
        if reading.key().size > size {
            return None;
        }
        match reading.advance(budget, block) {
            Progress::More => None,
            Progress::Done(Err(_)) => Some(None),
            Progress::Done(Ok(content)) => {
                self.cache.put(&reading, None, &content);
                Some(Some(content))
            }
        }
    }

    /// Another path of the image with the same bytes.
    fn same_content(&self, image: &Image, content: &Content, block: &mut Block) -> Origin {
        let layers = match image {
            Image::None(_) => return Origin::Nowhere,
            Image::Manifest(manifest) => {
                let path = manifest.path_of(content.sha256);
                return path.map_or(Origin::Nowhere, |path| Origin::At(Text::from(path)));
            }
            Image::Layers(layers) => layers,
        };
        let look = self.index.look(layers, content.size);
        let path = look.paths.into_iter().find(|path| {
            // A file of one layer may be hidden by another: what counts is what the image shows there.
            let Ok(Some(file)) = layers.find(path) else {
                return false;
            };
            read_whole(file.fd, &self.cache, block)
                .is_ok_and(|candidate| candidate.sha256 == content.sha256)
        });
        match path {
            Some(path) => Origin::At(Text::from(path)),
            None if look.is_whole => Origin::Nowhere,
            None => Origin::NotListed,
        }
    }

    pub(crate) fn matches(&self, sha256: &Sha256) -> Vec<IndicatorMatch> {
        self.scanner().matches(sha256)
    }

    /// See [`Scanner::failures`].
    pub(crate) fn scanner_failures(&self) -> u64 {
        self.scanner().failures()
    }

    fn scanner(&self) -> MutexGuard<'_, Box<dyn Scanner + Send>> {
        self.scanner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(
        &self,
        request: &Request,
        content: Option<&Content>,
        matches: Vec<IndicatorMatch>,
        (provenance, evidence): (Provenance, Evidence),
    ) -> Judged {
        let facts = &request.facts;
        let reason = match request.bytes {
            Bytes::Missing(reason) => reason,
            _ => MissingReason::ReadFailed,
        };
        let known = content.map(|content| enriched::Content::Known {
            sha256: content.sha256,
            size: content.size,
        });
        Judged {
            interpreter: content.and_then(|content| content.interpreter),
            file: Arc::new(File {
                path: facts.path.clone(),
                path_used: request.path_used.clone(),
                content: known.unwrap_or(enriched::Content::Missing { reason }),
                key: facts.key,
                provenance,
                evidence,
                matches,
                kind: content.map_or(FileKind::Unknown, |content| content.kind),
                contents: content.and_then(|content| content.contents.clone()),
                is_memfd: facts.is_memfd,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Scanner for Nobody {
        fn matches(&self, _: &Sha256) -> Vec<IndicatorMatch> {
            Vec::new()
        }
    }

    #[test]
    fn a_file_that_grows_past_the_limit_is_given_up() {
        const LIMIT: u64 = 1024 * 1024;
        let judge = Judge::new(Box::new(Nobody), LIMIT, false);
        let file = tempfile::tempfile().unwrap();
        file.set_len(LIMIT).unwrap();
        let reading = Reading::new(file.try_clone().unwrap().into()).unwrap();
        file.set_len(1000 * LIMIT).unwrap();
        let mut request = Request {
            root: None,
            mounts: None,
            facts: FileFacts::default(),
            path_used: None,
            links_seen: 0,
            bytes: Bytes::Reading(Box::new(reading)),
            verdict: OnceCell::new(),
            listed_since: None,
        };
        let judged = judge.slow(&mut request, 2 * LIMIT, &mut Block::default());
        let reason = MissingReason::TooLarge;
        assert_eq!(judged.unwrap().content(), Err(reason));
    }
}
