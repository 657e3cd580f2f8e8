//! Reads a bbolt database (containerd's `meta.db`, Podman's `bolt_state.db`) while its owner writes it, without its lock.
//!
//! Format: `page.go`, `meta.go` and `bucket.go` of go.etcd.io/bbolt, version 2. All integers are little-endian. Pages are never
//! changed in place: a transaction writes new ones and then one of two meta pages, and pages it freed are used again by a
//! later one. So what was read is right when the newest meta page is still the same afterwards; otherwise it is read again.

use std::{cell::Cell, collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

use model::limits::{BOLT_PAGES_MAX, METADATA_BYTES_MAX};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const PAGE_HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const BUCKET_HEADER_BYTES: usize = 16;
/// Up to and without the checksum, without the page header.
const META_BYTES: usize = 56;

const BRANCH_PAGE: u16 = 0x01;
const LEAF_PAGE: u16 = 0x02;
const BUCKET_ELEMENT: u32 = 0x01;

/// The operating system's page size decides, so these are all there are.
const PAGE_SIZES: [u32; 5] = [4096, 8192, 16_384, 32_768, 65_536];

/// A tree this deep would hold more than any disk: deeper is damage.
const DEPTH_MAX: usize = 32;

/// Times that a changing database is read.
const TRIES: usize = 8;

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed, or the file ends too early.
    #[error("reading a page")]
    Read(#[from] io::Error),
    /// Neither meta page is whole.
    #[error("not a bolt database")]
    NotADatabase,
    /// A page is not what its place asks for.
    #[error("page {page} is damaged")]
    Damaged {
        /// Its number; 0 for an inline one.
        page: u64,
    },
    /// More pages than a look-up needs, or one larger than [`METADATA_BYTES_MAX`].
    #[error("the database exceeds a limit")]
    TooLarge,
    /// It was written to during each of a few tries.
    #[error("the database keeps changing")]
    Changing,
}

/// Bytes at an offset: a file, or memory in tests.
pub trait Source {
    /// Exactly `length` bytes at `offset`.
    ///
    /// # Errors
    /// When they are not there.
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

impl Source for File {
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

impl Source for &[u8] {
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(length)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

/// Gets whether an element is a bucket, its key and its value; says whether to go on.
type Visit<'a> = dyn FnMut(bool, &[u8], &[u8]) -> bool + 'a;

/// One state of a database.
pub struct Database<'a> {
    source: &'a dyn Source,
    meta: Meta,
    pages_left: Cell<usize>,
}

/// A bucket: a tree of pages, or a single one inside its parent's value.
#[derive(Clone, Debug)]
pub enum Bucket {
    /// Number of the root page.
    Tree(u64),
    /// The page.
    Inline(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    page_size: u32,
    root: u64,
    pages: u64,
    transaction: u64,
}

/// Calls `look` on the newest state, and again when the database was written to meanwhile.
///
/// # Errors
/// What `look` returns, or why the database cannot be read.
pub fn read<T>(
    source: &dyn Source,
    mut look: impl FnMut(&Database<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 0..TRIES {
        let meta = newest_meta(source)?;
        let database = Database {
            source,
            meta,
            pages_left: Cell::new(BOLT_PAGES_MAX),
        };
        let found = look(&database);
        if newest_meta(source)? == meta {
            return found;
        }
    }
    Err(Error::Changing)
}

impl Database<'_> {
    /// The bucket at a path of names from the top. `None` when there is none.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub fn bucket(&self, path: &[&[u8]]) -> Result<Option<Bucket>, Error> {
        let mut bucket = Bucket::Tree(self.meta.root);
        for name in path {
            match self.find(&bucket, name)? {
                Some((true, value)) => bucket = parse_bucket(&value)?,
                _ => return Ok(None),
            }
        }
        Ok(Some(bucket))
    }

    /// The value of a key in a bucket. `None` when there is none, or a bucket of that name.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub fn get(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(match self.find(bucket, key)? {
            Some((false, value)) => Some(value),
            _ => None,
        })
    }

    /// At most `entries_max` keys with their values. Buckets inside are left out.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub fn entries(
        &self,
        bucket: &Bucket,
        entries_max: usize,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut entries = BTreeMap::new();
        self.walk(&self.root_page(bucket)?, 0, &mut |is_bucket, key, value| {
            if !is_bucket && entries.len() < entries_max {
                entries.insert(key.to_vec(), value.to_vec());
            }
            entries.len() < entries_max
        })?;
        Ok(entries)
    }

    /// The value of a key, and whether it is a bucket.
    fn find(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<(bool, Vec<u8>)>, Error> {
        let mut page = self.root_page(bucket)?;
        for _ in 0..DEPTH_MAX {
            if page.is_leaf {
                for index in 0..page.count {
                    let (is_bucket, found, value) = page.leaf(index)?;
                    if found == key {
                        return Ok(Some((is_bucket, value.to_vec())));
                    }
                }
                return Ok(None);
            }
            // The last child that does not begin after the key.
            let mut child = None;
            for index in 0..page.count {
                let (first, number) = page.branch(index)?;
                if first > key {
                    break;
                }
                child = Some(number);
            }
            match child {
                Some(number) => page = self.page(number)?,
                None => return Ok(None),
            }
        }
        Err(Error::Damaged { page: page.number })
    }

    /// Calls `visit` with every element, in order, until it says no. Returns whether to go on.
    fn walk(&self, page: &Page, depth: usize, visit: &mut Visit<'_>) -> Result<bool, Error> {
        if depth >= DEPTH_MAX {
            return Err(Error::Damaged { page: page.number });
        }
        for index in 0..page.count {
            let goes_on = if page.is_leaf {
                let (is_bucket, key, value) = page.leaf(index)?;
                visit(is_bucket, key, value)
            } else {
                let (_, number) = page.branch(index)?;
                self.walk(&self.page(number)?, depth + 1, visit)?
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn root_page(&self, bucket: &Bucket) -> Result<Page, Error> {
        match bucket {
            Bucket::Tree(number) => self.page(*number),
            Bucket::Inline(bytes) => Page::parse(bytes.clone(), 0),
        }
    }

    fn page(&self, number: u64) -> Result<Page, Error> {
        let left = self
            .pages_left
            .get()
            .checked_sub(1)
            .ok_or(Error::TooLarge)?;
        self.pages_left.set(left);
        // Pages 0 and 1 are the meta pages.
        if number < 2 || number >= self.meta.pages {
            return Err(Error::Damaged { page: number });
        }
        let page_size = u64::from(self.meta.page_size);
        let offset = number
            .checked_mul(page_size)
            .ok_or(Error::Damaged { page: number })?;
        let header = self.source.read(offset, PAGE_HEADER_BYTES)?;
        let overflow = u64::from(u32_at(&header, 12).unwrap_or(0));
        let length = (overflow + 1).saturating_mul(page_size);
        if length > METADATA_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        let length = usize::try_from(length).map_err(|_| Error::TooLarge)?;
        Page::parse(self.source.read(offset, length)?, number)
    }
}

/// A branch or leaf page.
#[derive(Debug)]
struct Page {
    number: u64,
    is_leaf: bool,
    count: usize,
    bytes: Vec<u8>,
}

impl Page {
    fn parse(bytes: Vec<u8>, number: u64) -> Result<Self, Error> {
        let damaged = || Error::Damaged { page: number };
        if u64_at(&bytes, 0) != Some(number) {
            return Err(damaged());
        }
        let is_leaf = match u16_at(&bytes, 8) {
            Some(LEAF_PAGE) => true,
            Some(BRANCH_PAGE) => false,
            _ => return Err(damaged()),
        };
        let count = usize::from(u16_at(&bytes, 10).ok_or_else(damaged)?);
        Ok(Self {
            number,
            is_leaf,
            count,
            bytes,
        })
    }

    /// Whether it is a bucket, the key and the value.
    fn leaf(&self, index: usize) -> Result<(bool, &[u8], &[u8]), Error> {
        let read = || {
            let start = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
            let flags = u32_at(&self.bytes, start)?;
            let position = u32_at(&self.bytes, start + 4)? as usize;
            let key_bytes = u32_at(&self.bytes, start + 8)? as usize;
            let value_bytes = u32_at(&self.bytes, start + 12)? as usize;
            let rest = self.bytes.get(start.checked_add(position)?..)?;
            let (key, rest) = rest.split_at_checked(key_bytes)?;
            Some((flags & BUCKET_ELEMENT != 0, key, rest.get(..value_bytes)?))
        };
        read().ok_or(Error::Damaged { page: self.number })
    }

    /// The first key of a child, and its number.
    fn branch(&self, index: usize) -> Result<(&[u8], u64), Error> {
        let read = || {
            let start = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
            let position = u32_at(&self.bytes, start)? as usize;
            let key_bytes = u32_at(&self.bytes, start + 4)? as usize;
            let number = u64_at(&self.bytes, start + 8)?;
            let rest = self.bytes.get(start.checked_add(position)?..)?;
            Some((rest.get(..key_bytes)?, number))
        };
        read().ok_or(Error::Damaged { page: self.number })
    }
}

fn parse_bucket(value: &[u8]) -> Result<Bucket, Error> {
    match u64_at(value, 0) {
        Some(0) => Ok(Bucket::Inline(
            value
                .get(BUCKET_HEADER_BYTES..)
                .unwrap_or_default()
                .to_vec(),
        )),
        Some(root) => Ok(Bucket::Tree(root)),
        None => Err(Error::Damaged { page: 0 }),
    }
}

/// The whole meta page with the higher transaction. The other one may be half written.
fn newest_meta(source: &dyn Source) -> Result<Meta, Error> {
    let at = |offset: u64| {
        let page = source
            .read(offset, PAGE_HEADER_BYTES + META_BYTES + 8)
            .ok()?;
        parse_meta(page.get(PAGE_HEADER_BYTES..)?)
    };
    let first = at(0);
    let second = match first {
        Some(meta) => at(u64::from(meta.page_size)),
        None => PAGE_SIZES
            .iter()
            .find_map(|size| at(u64::from(*size)).filter(|meta| meta.page_size == *size)),
    };
    first
        .into_iter()
        .chain(second)
        .max_by_key(|meta| meta.transaction)
        .ok_or(Error::NotADatabase)
}

fn parse_meta(bytes: &[u8]) -> Option<Meta> {
    let (body, checksum) = bytes.split_at_checked(META_BYTES)?;
    let is_whole = u32_at(body, 0)? == MAGIC
        && u32_at(body, 4)? == VERSION
        && u64_at(checksum, 0)? == fnv1a(body);
    let page_size = u32_at(body, 8)?;
    (is_whole && PAGE_SIZES.contains(&page_size)).then_some(Meta {
        page_size,
        root: u64_at(body, 16)?,
        pages: u64_at(body, 40)?,
        transaction: u64_at(body, 48)?,
    })
}

/// FNV-1a, 64 bits, as the meta pages are checked.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
