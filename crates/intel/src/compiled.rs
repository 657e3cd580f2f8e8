//! The compiled indicator file: sorted, checked, and looked up where it lies.
//!
//! ```text
//! offset  bytes
//!      0      8  magic and version
//!      8      4  H, bytes of the header
//!     12      8  N, number of records
//!     20      8  T, bytes of notes
//!     28     32  SHA-256 of all that follows
//!     60      H  the lists, as JSON
//!           40N  records, sorted: SHA-256, number of the list (4 bytes), position of the note plus one or 0 (4 bytes)
//!             T  notes: one byte of length less one, then UTF-8
//! ```
//!
//! Integers are little endian. A record is found by a binary search that reads from the file, among those with the same first
//! two bytes: nothing but an index of 256 KiB is held in memory however long the lists are, the kernel's page cache does the
//! rest, and the file may be replaced by rename at any time.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::fs::FileExt as _,
};

use model::{
    limits::{INDICATOR_NOTE_BYTES_MAX, METADATA_BYTES_MAX},
    provenance::Sha256,
};
use sha2::Digest as _;

use crate::database::List;

const MAGIC: &[u8; 8] = b"HWINTEL\x01";
const PREAMBLE_BYTES: u64 = 60;
const RECORD_BYTES: usize = 40;
const PREFIXES: usize = 1 << 16;
/// Distinct notes of which only one copy is kept. Families are a few thousand; a list with a remark of its own beside each hash
/// gains nothing from a table of a million remarks.
const NOTES_SHARED_MAX: usize = 1 << 16;
const _: () = assert!(
    INDICATOR_NOTE_BYTES_MAX <= 256,
    "a note's length is one byte"
);

/// Why a compiled file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("reading it")]
    Read(#[from] io::Error),
    /// It is not such a file, or of another version.
    #[error("not an indicator file of this version")]
    NotIndicators,
    /// Its size is not what it says itself.
    #[error("cut off, or something was added")]
    WrongSize,
    /// Its checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// Its header is no list of lists.
    #[error("its header makes no sense")]
    Header,
    /// Its records are not in order.
    #[error("its records are not in order")]
    Order,
}

/// An indicator in memory, while lists are compiled. Ordered as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The hash.
    pub sha256: Sha256,
    /// Index into the lists.
    pub list: u32,
    /// Where the note stands, see [`Notes`]. 0: none.
    pub note: u32,
}

/// Notes of all indicators, the first [`NOTES_SHARED_MAX`] texts once each.
#[derive(Debug, Default)]
pub struct Notes {
    bytes: Vec<u8>,
    positions: HashMap<String, u32>,
}

impl Notes {
    /// Position of a note for [`Record::note`]. 0 when there is no room left for it: four gigabytes.
    pub fn add(&mut self, note: &str) -> u32 {
        if let Some(&position) = self.positions.get(note) {
            return position;
        }
        let note = &note[..note.floor_char_boundary(INDICATOR_NOTE_BYTES_MAX)];
        let (Some(length), Ok(position)) = (
            note.len()
                .checked_sub(1)
                .and_then(|length| u8::try_from(length).ok()),
            u32::try_from(self.bytes.len() + 1),
        ) else {
            return 0;
        };
        self.bytes.push(length);
        self.bytes.extend_from_slice(note.as_bytes());
        if self.positions.len() < NOTES_SHARED_MAX {
            self.positions.insert(note.to_owned(), position);
        }
        position
    }
}

/// Writes a compiled file. `records` are sorted and need not be unique; see [`dedup`].
///
/// # Errors
/// When writing fails.
pub fn write(
    out: &mut impl Write,
    lists: &[List],
    records: &[Record],
    notes: &Notes,
) -> io::Result<()> {
    debug_assert!(records.is_sorted());
    let header = serde_json::to_vec(lists)?;
    let mut hasher = sha2::Sha256::new();
    hasher.update(&header);
    records
        .iter()
        .for_each(|record| hasher.update(encoded(record)));
    hasher.update(&notes.bytes);

    out.write_all(MAGIC)?;
    out.write_all(
        &u32::try_from(header.len())
            .map_err(io::Error::other)?
            .to_le_bytes(),
    )?;
    out.write_all(&(records.len() as u64).to_le_bytes())?;
    out.write_all(&(notes.bytes.len() as u64).to_le_bytes())?;
    out.write_all(&hasher.finalize())?;
    out.write_all(&header)?;
    for record in records {
        out.write_all(&encoded(record))?;
    }
    out.write_all(&notes.bytes)
}

/// Sorts records and leaves one for each hash of each list, one with a note if there is one.
pub fn dedup(records: &mut Vec<Record>) {
    // Records without a note sort first, so the last of each group is the one to keep.
    records.sort_unstable();
    records.reverse();
    records.dedup_by_key(|record| (record.sha256, record.list));
    records.reverse();
}

fn encoded(record: &Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let (sha256, rest) = bytes.split_at_mut(32);
    let (list, note) = rest.split_at_mut(4);
    sha256.copy_from_slice(&record.sha256.0);
    list.copy_from_slice(&record.list.to_le_bytes());
    note.copy_from_slice(&record.note.to_le_bytes());
    bytes
}

fn decoded(bytes: &[u8; RECORD_BYTES]) -> Record {
    let mut record = Record {
        sha256: Sha256([0; 32]),
        list: 0,
        note: 0,
    };
    let (sha256, rest) = bytes.split_at(32);
    let (list, note) = rest.split_at(4);
    record.sha256.0.copy_from_slice(sha256);
    record.list = list.try_into().map_or(0, u32::from_le_bytes);
    record.note = note.try_into().map_or(0, u32::from_le_bytes);
    record
}

/// An open compiled file.
#[derive(Debug)]
pub struct Compiled {
    file: File,
    lists: Vec<List>,
    records_at: u64,
    notes_at: u64,
    /// For each value of a hash's first two bytes, the number of records before it; one more for the end.
    starts: Vec<u32>,
}

impl Compiled {
    /// Checks the whole file, once, and keeps it open.
    ///
    /// # Errors
    /// When it cannot be read or is not whole.
    pub fn open(file: File) -> Result<Self, Error> {
        let size = file.metadata()?.len();
        let mut input = BufReader::with_capacity(1 << 16, &file);

        let mut magic = [0; 8];
        let mut header_bytes = [0; 4];
        let mut records = [0; 8];
        let mut notes_bytes = [0; 8];
        let mut checksum = [0; 32];
        for field in [
            &mut magic[..],
            &mut header_bytes,
            &mut records,
            &mut notes_bytes,
            &mut checksum,
        ] {
            read_exact(&mut input, field)?;
        }
        if &magic != MAGIC {
            return Err(Error::NotIndicators);
        }
        let header_bytes = u64::from(u32::from_le_bytes(header_bytes));
        let records = u64::from_le_bytes(records);
        let notes_bytes = u64::from_le_bytes(notes_bytes);
        let records_at = PREAMBLE_BYTES + header_bytes;
        let notes_at = records
            .checked_mul(RECORD_BYTES as u64)
            .and_then(|bytes| bytes.checked_add(records_at))
            .ok_or(Error::WrongSize)?;
        if header_bytes > METADATA_BYTES_MAX
            || u32::try_from(records).is_err()
            || notes_at.checked_add(notes_bytes) != Some(size)
        {
            return Err(Error::WrongSize);
        }

        let mut hasher = sha2::Sha256::new();
        let mut header = vec![0; usize::try_from(header_bytes).map_err(|_| Error::WrongSize)?];
        read_exact(&mut input, &mut header)?;
        hasher.update(&header);
        let starts = index(&mut input, records, &mut hasher)?;
        let mut chunk = [0; 4096];
        loop {
            match input.read(&mut chunk)? {
                0 => break,
                read => hasher.update(chunk.get(..read).unwrap_or_default()),
            }
        }
        if hasher.finalize()[..] != checksum {
            return Err(Error::Checksum);
        }
        let lists = serde_json::from_slice(&header).map_err(|_| Error::Header)?;
        drop(input);
        Ok(Self {
            file,
            lists,
            records_at,
            notes_at,
            starts,
        })
    }

    /// The lists it was compiled from.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// Number of records.
    pub fn len(&self) -> u32 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// True when there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records of a hash: the list of each and its note.
    ///
    /// # Errors
    /// When reading fails, for example because the file was cut off after it was opened.
    pub fn find(&self, sha256: &Sha256) -> io::Result<Vec<(&List, Option<String>)>> {
        let [first, second, ..] = sha256.0;
        let prefix = usize::from(u16::from_be_bytes([first, second]));
        let start = |prefix: usize| self.starts.get(prefix).copied().unwrap_or(0);
        let (mut low, end) = (start(prefix), start(prefix + 1));
        let mut high = end;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.sha256 < *sha256 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut found = Vec::new();
        for index in low..end {
            let record = self.record(index)?;
            if record.sha256 != *sha256 {
                break;
            }
            if let Some(list) = self.lists.get(record.list as usize) {
                found.push((list, self.note(record.note)?));
            }
        }
        Ok(found)
    }

    /// All records, in order.
    ///
    /// # Errors
    /// When reading fails.
    pub fn records(&self) -> impl Iterator<Item = io::Result<Record>> {
        const AT_ONCE: u32 = 1024;
        (0..self.len())
            .step_by(AT_ONCE as usize)
            .flat_map(move |from| {
                let count = (self.len() - from).min(AT_ONCE) as usize;
                let mut bytes = vec![0; count * RECORD_BYTES];
                let read = self.file.read_exact_at(&mut bytes, self.position(from));
                let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
                match read {
                    Ok(()) => records.iter().map(|bytes| Ok(decoded(bytes))).collect(),
                    Err(error) => vec![Err(error)],
                }
            })
    }

    /// Text of a note, by [`Record::note`].
    ///
    /// # Errors
    /// When reading fails.
    pub fn note(&self, position: u32) -> io::Result<Option<String>> {
        let Some(offset) = position.checked_sub(1) else {
            return Ok(None);
        };
        let offset = self.notes_at + u64::from(offset);
        let mut length = [0];
        self.file.read_exact_at(&mut length, offset)?;
        let [length] = length;
        let mut bytes = vec![0; usize::from(length) + 1];
        self.file.read_exact_at(&mut bytes, offset + 1)?;
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn record(&self, index: u32) -> io::Result<Record> {
        let mut bytes = [0; RECORD_BYTES];
        self.file.read_exact_at(&mut bytes, self.position(index))?;
        Ok(decoded(&bytes))
    }

    fn position(&self, index: u32) -> u64 {
        self.records_at + u64::from(index) * RECORD_BYTES as u64
    }
}

/// Reads the records, checks their order and notes where each prefix begins.
fn index(
    input: &mut impl Read,
    records: u64,
    hasher: &mut sha2::Sha256,
) -> Result<Vec<u32>, Error> {
    let mut starts = vec![0u32; PREFIXES + 1];
    let mut previous = None;
    let mut bytes = [0; RECORD_BYTES];
    for _ in 0..records {
        read_exact(input, &mut bytes)?;
        hasher.update(bytes);
        let record = decoded(&bytes);
        if previous.is_some_and(|previous| previous > record) {
            return Err(Error::Order);
        }
        previous = Some(record);
        let [first, second, ..] = record.sha256.0;
        let after = usize::from(u16::from_be_bytes([first, second])) + 1;
        if let Some(count) = starts.get_mut(after) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    Ok(starts)
}

fn read_exact(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), Error> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::WrongSize,
        _ => Error::Read(error),
    })
}
