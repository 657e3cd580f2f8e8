//! SHA-256 of whole files, and what else one pass over the bytes can tell.
//!
//! No size cap of its own: a file is read in steps, so that the caller decides how long one file may keep others
//! waiting. Results are remembered by [`FileKey`], which holds ctime: a same-size patch with its times put back changes
//! ctime, and nothing that a program can do sets it.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use model::{
    Text, Timestamp,
    enriched::FileKind,
    event::FileKey,
    limits::{CONTENTS_BYTES_MAX, CONTENTS_CACHE_BYTES_MAX, HASH_CACHE_ENTRIES_MAX},
    provenance::{MissingReason, Sha256},
};
use rustix::{
    fs::{Advice, fadvise, fstat, fstatfs},
    io::pread,
};
use sha2::Digest as _;

use crate::{
    elf,
    file_kind::{Interpreter, Sniffer},
    proc::{is_regular, key_of, link_count},
    weighted::WeightedCache,
};

/// Bytes read at a time: large enough that the system call costs nothing, small enough for the second-level cache.
const BLOCK_BYTES: usize = 128 * 1024;

/// Times a file is read when its metadata changes meanwhile.
const READS_MAX: u8 = 4;

/// What the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Digest of all bytes.
    pub sha256: Sha256,
    /// Number of bytes.
    pub size: u64,
    /// What they are.
    pub kind: FileKind,
    /// Which interpreter, when `kind` says that it is one.
    pub interpreter: Option<Interpreter>,
    /// The first bytes, unless it is an ELF file.
    pub contents: Option<Text>,
}

/// How far a [`Reading`] got.
#[derive(Debug)]
pub enum Progress {
    /// There is more to read.
    More,
    /// All bytes were hashed, or they cannot be.
    Done(Result<Arc<Content>, MissingReason>),
}

/// A file that is being hashed.
pub struct Reading {
    fd: OwnedFd,
    key: FileKey,
    link_count: u32,
    is_settled: bool,
    hasher: sha2::Sha256,
    sniffer: Option<Sniffer>,
    contents: Text,
    offset: u64,
    reads: u8,
    /// Digest of the previous pass, when the metadata changed during it.
    previous: Option<Sha256>,
}

impl Reading {
    /// Prepares to read all of a regular file, whatever the offset of the descriptor is.
    ///
    /// # Errors
    /// [`MissingReason::ReadFailed`] when it is not a regular file.
    pub fn new(fd: OwnedFd) -> Result<Self, MissingReason> {
        let stat = fstat(&fd).map_err(|_| MissingReason::ReadFailed)?;
        if !is_regular(&stat) {
            return Err(MissingReason::ReadFailed);
        }
        let _ = fadvise(&fd, 0, None, Advice::Sequential);
        let key = key_of(&stat);
        Ok(Self {
            key,
            link_count: link_count(&stat),
            is_settled: is_settled(&key, &fd),
            fd,
            hasher: sha2::Sha256::new(),
            sniffer: None,
            contents: Text::default(),
            offset: 0,
            reads: 0,
            previous: None,
        })
    }

    /// Identity of the file, as of the beginning of the current pass.
    pub fn key(&self) -> FileKey {
        self.key
    }

    /// Whether a change of the file since the current pass began is sure to change its key.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Bytes read in the current pass.
    pub fn bytes_read(&self) -> u64 {
        self.offset
    }

    /// Number of names of the file, as of the last look at it.
    pub fn link_count(&self) -> u32 {
        self.link_count
    }

    /// Reads about `budget` bytes more.
    ///
    /// A pass counts when identity, size and times are the same before and after. When they are not (also a harmless
    /// `unlink` changes ctime), the file is read again; two passes with the same digest count too, so that nobody can
    /// keep a program from being hashed by touching it all the time.
    pub fn advance(&mut self, budget: u64, block: &mut Block) -> Progress {
        let mut left = budget;
        loop {
            if self.offset == 0 {
                // What has not changed for a while when its first byte is read is no longer changed unseen, however fresh it was
                // when it was queued.
                self.is_settled = is_settled(&self.key, &self.fd);
            }
            let count = match pread(&self.fd, &mut block.0, self.offset) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return Progress::Done(Err(MissingReason::ReadFailed)),
            };
            let bytes = block.0.get(..count).unwrap_or_default();
            if count == 0 {
                if let Some(result) = self.end_of_pass() {
                    return Progress::Done(result);
                }
                continue;
            }
            if self.offset == 0 {
                self.start_of_pass(bytes);
            }
            self.hasher.update(bytes);
            if let Some(sniffer) = &mut self.sniffer {
                sniffer.feed(bytes);
            }
            self.offset = self.offset.saturating_add(count as u64);
            left = left.saturating_sub(count as u64);
            if left == 0 {
                return Progress::More;
            }
        }
    }

    fn start_of_pass(&mut self, head: &[u8]) {
        let elf = elf::parse(&mut |offset, length| {
            let mut bytes = vec![0; length];
            let count = pread(&self.fd, &mut bytes, offset).unwrap_or(0);
            bytes.truncate(count);
            bytes
        });
        self.contents = match elf {
            Some(_) => Text::default(),
            None => Text::from(
                head.get(..CONTENTS_BYTES_MAX.min(head.len()))
                    .unwrap_or_default(),
            ),
        };
        self.sniffer = Some(Sniffer::new(head, elf));
    }

    fn end_of_pass(&mut self) -> Option<Result<Arc<Content>, MissingReason>> {
        let digest = Sha256(std::mem::take(&mut self.hasher).finalize().into());
        let Ok(stat) = fstat(&self.fd) else {
            return Some(Err(MissingReason::ReadFailed));
        };
        let key = key_of(&stat);
        self.link_count = link_count(&stat);
        self.reads += 1;
        if key == self.key && key.size == self.offset || self.previous == Some(digest) {
            let (kind, interpreter) = self
                .sniffer
                .as_ref()
                .map_or((FileKind::Data, None), Sniffer::finish);
            let is_text = matches!(kind, FileKind::Script | FileKind::Data);
            return Some(Ok(Arc::new(Content {
                sha256: digest,
                size: self.offset,
                kind,
                interpreter,
                contents: is_text.then(|| std::mem::take(&mut self.contents)),
            })));
        }
        if self.reads >= READS_MAX {
            return Some(Err(MissingReason::ChangedWhileReading));
        }
        self.key = key;
        self.previous = Some(digest);
        self.offset = 0;
        self.sniffer = None;
        None
    }
}

/// The buffer of one reader, reused from file to file.
pub struct Block(Vec<u8>);

impl Default for Block {
    fn default() -> Self {
        Self(vec![0; BLOCK_BYTES])
    }
}

fn is_settled(key: &FileKey, fd: &OwnedFd) -> bool {
    fstatfs(fd).is_ok_and(|filesystem| {
        key.is_settled(filesystem.f_type, Timestamp::from(SystemTime::now()))
    })
}

/// Contents by identity, shared by everything that reads files.
pub struct Cache(Mutex<Known>);

struct Known {
    /// Without the first bytes of scripts.
    digests: WeightedCache<FileKey, Entry>,
    /// Those of scripts with their first bytes, while there is room: no number of them makes a digest go.
    scripts: WeightedCache<FileKey, Arc<Content>>,
}

struct Entry {
    content: Arc<Content>,
    is_settled: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self(Mutex::new(Known {
            digests: WeightedCache::new(HASH_CACHE_ENTRIES_MAX, usize::MAX),
            scripts: WeightedCache::new(HASH_CACHE_ENTRIES_MAX, CONTENTS_CACHE_BYTES_MAX),
        }))
    }
}

impl Cache {
    /// The content with that identity, when it was read before and cannot have changed unseen.
    pub fn get(&self, key: &FileKey) -> Option<Arc<Content>> {
        let (content, is_settled) = self.find(key)?;
        is_settled.then_some(content)
    }

    /// The content with that identity, also when it was read within a tick of the clock after its last change. For
    /// files that can no longer be read.
    pub fn get_unsettled(&self, key: &FileKey) -> Option<Arc<Content>> {
        self.find(key).map(|(content, _)| content)
    }

    fn find(&self, key: &FileKey) -> Option<(Arc<Content>, bool)> {
        let mut known = self.lock();
        let script = known.scripts.get(key).cloned();
        let entry = known.digests.get(key)?;
        let content = script.unwrap_or_else(|| Arc::clone(&entry.content));
        Some((content, entry.is_settled))
    }

    /// Remembers what `reading` found, also under `alias`: the identity that the kernel reported for the same file.
    pub fn put(&self, reading: &Reading, alias: Option<FileKey>, content: &Arc<Content>) {
        let contents = content.contents.as_ref();
        let script = contents.map(|text| size_of::<Content>() + text.weight());
        let digest = match contents {
            None => Arc::clone(content),
            Some(_) => Arc::new(Content {
                contents: None,
                ..Content::clone(content)
            }),
        };
        let mut known = self.lock();
        let alias = alias.filter(|alias| *alias != reading.key);
        for key in [Some(reading.key), alias].into_iter().flatten() {
            let entry = Entry {
                content: Arc::clone(&digest),
                is_settled: reading.is_settled,
            };
            known.digests.put(key, entry, 0);
            match script {
                Some(bytes) => known.scripts.put(key, Arc::clone(content), bytes),
                // It may have been one.
                None => {
                    known.scripts.remove(&key);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads all of a file at once.
///
/// # Errors
/// Why the bytes are not known.
pub fn read_whole(
    fd: OwnedFd,
    cache: &Cache,
    block: &mut Block,
) -> Result<Arc<Content>, MissingReason> {
    let mut reading = Reading::new(fd)?;
    if let Some(content) = cache.get(&reading.key()) {
        return Ok(content);
    }
    loop {
        if let Progress::Done(result) = reading.advance(u64::MAX, block) {
            let content = result?;
            cache.put(&reading, None, &content);
            return Ok(content);
        }
    }
}
