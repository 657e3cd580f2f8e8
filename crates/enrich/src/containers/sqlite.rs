//! Opens an engine's SQLite database from a copy in memory, so that SQLite never opens, locks or creates a file that a user
//! without privileges owns.
//!
//! The copy is the database file with its write-ahead log played over it. Format of both: "Database File Format" and "WAL-mode
//! File Format" of SQLite's documentation.

use model::limits::METADATA_BYTES_MAX;
use rusqlite::{Connection, MAIN_DB, config::DbConfig, limits::Limit};

/// Steps of SQLite's virtual machine for one look-up. One by a primary key takes a few dozen; a schema can be made to need
/// any number.
const STEPS_MAX: i32 = 100_000;

const WAL_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The last bit says that checksums add big-endian words.
const WAL_MAGIC: u32 = 0x377F_0682;
/// Where the file's header says whether writers and readers use a write-ahead log (2) or not (1).
const HEADER_VERSIONS: std::ops::Range<usize> = 18..20;

/// Opens the copy of a database for reading.
///
/// # Errors
/// When SQLite takes none of it. Damage further inside shows when it is read.
pub fn open(mut database: Vec<u8>, wal: &[u8]) -> rusqlite::Result<Connection> {
    play(&mut database, wal);
    if let Some(versions) = database.get_mut(HEADER_VERSIONS) {
        // The log is in it by now, and a database in memory cannot have one.
        versions.fill(1);
    }
    let mut db = Connection::open_in_memory()?;
    let length_max = i32::try_from(METADATA_BYTES_MAX).unwrap_or(i32::MAX);
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, length_max)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    db.progress_handler(STEPS_MAX, Some(|| true))?;
    db.deserialize_read_exact(MAIN_DB, database.as_slice(), database.len(), true)?;
    Ok(db)
}

/// Puts the pages of all whole transactions of a log into the database, as a checkpoint does.
fn play(database: &mut Vec<u8>, wal: &[u8]) {
    let Some((header, mut rest)) = wal.split_at_checked(WAL_HEADER_BYTES) else {
        return;
    };
    let magic = word(header, 0);
    let page_bytes = word(header, 8) as usize;
    let is_known = magic & !1 == WAL_MAGIC
        && page_bytes.is_power_of_two()
        && (512..=65_536).contains(&page_bytes);
    let mut sum = Sum {
        is_big_endian: magic & 1 == 1,
        ..Sum::default()
    };
    sum.add(header.get(..24).unwrap_or_default());
    if !is_known || !sum.is(header, 24) {
        return;
    }
    let mut pages = Vec::new();
    while let Some((frame, after)) = rest.split_at_checked(FRAME_HEADER_BYTES + page_bytes) {
        rest = after;
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        sum.add(head.get(..8).unwrap_or_default());
        sum.add(page);
        // What follows is left from before the log was started anew, or was not written to its end.
        if head.get(8..16) != header.get(16..24) || !sum.is(head, 16) {
            return;
        }
        pages.push((word(head, 0) as usize, page));
        let pages_after = word(head, 4) as usize;
        if pages_after == 0 {
            continue;
        }
        let bytes_after = pages_after.saturating_mul(page_bytes);
        if bytes_after as u64 > 2 * METADATA_BYTES_MAX {
            return;
        }
        database.resize(bytes_after, 0);
        for (number, page) in pages.drain(..) {
            let start = number.wrapping_sub(1).saturating_mul(page_bytes);
            if let Some(place) = database.get_mut(start..start.saturating_add(page_bytes)) {
                place.copy_from_slice(page);
            }
        }
    }
}

/// The log's checksum, which goes on from frame to frame.
#[derive(Default)]
struct Sum {
    is_big_endian: bool,
    first: u32,
    second: u32,
}

impl Sum {
    /// Adds a multiple of eight bytes.
    fn add(&mut self, bytes: &[u8]) {
        let number = match self.is_big_endian {
            true => u32::from_be_bytes,
            false => u32::from_le_bytes,
        };
        for pair in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
            let [first, second] = pair.map(number);
            self.first = self.first.wrapping_add(first).wrapping_add(self.second);
            self.second = self.second.wrapping_add(second).wrapping_add(self.first);
        }
    }

    /// It is the one that stands there.
    fn is(&self, bytes: &[u8], offset: usize) -> bool {
        (self.first, self.second) == (word(bytes, offset), word(bytes, offset + 4))
    }
}

/// A big-endian number; 0 when the bytes are not there.
fn word(bytes: &[u8], offset: usize) -> u32 {
    let found = bytes
        .get(offset..)
        .and_then(|bytes| bytes.first_chunk::<4>());
    found.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
