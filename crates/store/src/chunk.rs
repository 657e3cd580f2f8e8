//! The columns of all findings, in chunks of consecutive ids, and beside them the few findings that changed lately.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use rusqlite::{Connection, OptionalExtension, params};

use crate::Error;
use crate::column::{Bits, CHUNK, Entry, NUMBERS, decode_numbers, encode_numbers};
use crate::piece::{Rows, Terms};

/// Findings beside the columns. More make every query slower, fewer make writing the columns more frequent.
const FRESH_MAX: i64 = 1024;

/// Some findings whose columns are read together.
pub(crate) struct Batch {
    /// The findings of the batch.
    pub(crate) members: Bits,
    /// Event time of the oldest; none is older.
    pub(crate) oldest: i64,
    /// Event time of the newest; none is newer.
    pub(crate) newest: i64,
    source: Source,
    cache: Option<Arc<Cache>>,
}

enum Source {
    /// A chunk in the database, by its number, and its version.
    Stored(i64, i64),
    /// Those that changed lately, by id.
    Fresh(Vec<(i64, Entry)>),
}

/// What was read lately, of any version: what is here is only taken when it is of the version that is asked for.
pub(crate) struct Cache {
    pieces: Mutex<Pieces>,
    selections: Mutex<Selections>,
    meant: Mutex<Meant>,
}

struct Meant {
    /// By question: the newest value when it was asked, and those that are meant.
    lately: LruCache<String, (i64, Vec<u32>)>,
    values: usize,
}

/// Values kept of those that are meant, of four bytes each.
const MEANT_MAX: usize = 2 * 1024 * 1024;

/// What a question takes, in values.
fn size(question: &str, ids: &[u32]) -> usize {
    question.len() / 4 + ids.len() + 32
}

/// By filter and chunk: a review page asks a dozen questions about the same findings, and again every few seconds.
type Selections = LruCache<(Arc<str>, i64), Selected>;

/// What a filter selects.
struct Selected {
    /// Of the chunk.
    version: i64,
    /// The findings that were looked at.
    among: Bits,
    found: Bits,
}

/// Selections kept: of 33 filters at a million findings, a kilobyte each.
const SELECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

struct Pieces {
    /// By chunk and column.
    lately: LruCache<(i64, u8), Versioned>,
    bytes: usize,
}

/// A version of a piece.
type Versioned = (i64, Arc<[u8]>);

/// Bytes of pieces kept: those of the columns that the review page asks for, at a million findings.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Default for Cache {
    fn default() -> Self {
        Self {
            pieces: Mutex::new(Pieces {
                lately: LruCache::unbounded(),
                bytes: 0,
            }),
            selections: Mutex::new(LruCache::new(SELECTIONS_MAX)),
            meant: Mutex::new(Meant {
                lately: LruCache::unbounded(),
                values: 0,
            }),
        }
    }
}

impl Cache {
    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selections(&self) -> MutexGuard<'_, Selections> {
        self.selections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest value when a question was asked, and those that were meant.
    pub(crate) fn meant(&self, question: &str) -> Option<(i64, Vec<u32>)> {
        let mut meant = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        meant.lately.get(question).cloned()
    }

    pub(crate) fn remember(&self, question: String, newest: i64, ids: &[u32]) {
        let mut meant = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        meant.values += size(&question, ids);
        let known = (newest, ids.to_vec());
        if let Some((question, (_, ids))) = meant.lately.push(question, known) {
            meant.values -= size(&question, &ids);
        }
        while meant.values > MEANT_MAX
            && let Some((question, (_, ids))) = meant.lately.pop_lru()
        {
            meant.values -= size(&question, &ids);
        }
    }

    fn get(&self, key: (i64, u8), version: i64) -> Option<Arc<[u8]>> {
        let mut pieces = self.pieces();
        let (known, body) = pieces.lately.get(&key)?;
        (*known == version).then(|| Arc::clone(body))
    }

    fn put(&self, key: (i64, u8), version: i64, body: &Arc<[u8]>) {
        let mut pieces = self.pieces();
        pieces.bytes += body.len();
        if let Some((_, (_, old))) = pieces.lately.push(key, (version, Arc::clone(body))) {
            pieces.bytes -= old.len();
        }
        while pieces.bytes > CACHE_BYTES_MAX
            && let Some((_, (_, old))) = pieces.lately.pop_lru()
        {
            pieces.bytes -= old.len();
        }
    }
}

/// All findings at one moment. The cache is for readers: what a transaction has not committed must not get there.
pub(crate) fn load(db: &Connection, cache: Option<&Arc<Cache>>) -> Result<Vec<Batch>, Error> {
    let mut chunks = BTreeMap::new();
    let mut statement =
        db.prepare_cached("SELECT id, oldest, newest, members, version FROM chunk")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let members = Bits::from_bytes(row.get_ref(3)?.as_blob().map_err(|_| Error::Damaged)?);
        let batch = Batch {
            members,
            oldest: row.get(1)?,
            newest: row.get(2)?,
            source: Source::Stored(row.get(0)?, row.get(4)?),
            cache: cache.cloned(),
        };
        chunks.insert(row.get::<_, i64>(0)?, batch);
    }
    let mut fresh = Vec::new();
    let mut statement = db.prepare_cached("SELECT finding_id, body FROM fresh")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (chunk, offset) = place(row.get(0)?);
        if let Some(batch) = chunks.get_mut(&chunk) {
            batch.members.remove(offset);
        }
        let body = row
            .get_ref(1)?
            .as_blob_or_null()
            .map_err(|_| Error::Damaged)?;
        if let Some(body) = body {
            fresh.push((row.get(0)?, Entry::from_bytes(body)?));
        }
    }
    let mut batches: Vec<Batch> = chunks.into_values().collect();
    // One transaction may write more than fit one batch.
    while !fresh.is_empty() {
        let rest = fresh.split_off(fresh.len().min(CHUNK));
        batches.push(Batch::fresh(std::mem::replace(&mut fresh, rest)));
    }
    batches.retain(|batch| !batch.members.is_empty());
    Ok(batches)
}

/// One finding alone, `None` when it is not there.
pub(crate) fn load_one(db: &Connection, id: i64) -> Result<Option<Batch>, Error> {
    let fresh = db
        .prepare_cached("SELECT body FROM fresh WHERE finding_id = $1")?
        .query_row([id], |row| row.get::<_, Option<Vec<u8>>>(0))
        .optional()?;
    if let Some(body) = fresh {
        let entry = body.map(|body| Entry::from_bytes(&body)).transpose()?;
        return Ok(entry.map(|entry| Batch::fresh(vec![(id, entry)])));
    }
    let (chunk, offset) = place(id);
    let found = db
        .prepare_cached("SELECT members, oldest, newest, version FROM chunk WHERE id = $1")?
        .query_row([chunk], |row| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        })
        .optional()?;
    Ok(found.and_then(|(members, oldest, newest, version)| {
        let mut one = Bits::EMPTY;
        one.insert(offset);
        let members = Bits::from_bytes(&members).and(&one);
        (!members.is_empty()).then_some(Batch {
            members,
            oldest,
            newest,
            source: Source::Stored(chunk, version),
            cache: None,
        })
    }))
}

impl Batch {
    fn fresh(entries: Vec<(i64, Entry)>) -> Self {
        let mut members = Bits::EMPTY;
        (0..entries.len()).for_each(|offset| members.insert(offset));
        let times = || entries.iter().map(|(_, entry)| entry.numbers[0]);
        Self {
            members,
            oldest: times().min().unwrap_or_default(),
            newest: times().max().unwrap_or_default(),
            source: Source::Fresh(entries),
            cache: None,
        }
    }

    /// The id of the finding at an offset.
    pub(crate) fn id(&self, offset: usize) -> i64 {
        match &self.source {
            Source::Stored(chunk, _) => chunk * CHUNK as i64 + offset as i64,
            Source::Fresh(entries) => entries.get(offset).map_or(0, |(id, _)| *id),
        }
    }

    /// The offset of a finding of the batch.
    pub(crate) fn offset(&self, id: i64) -> Option<usize> {
        let offset = match &self.source {
            Source::Stored(chunk, _) => {
                let (own, offset) = place(id);
                (own == *chunk).then_some(offset)
            }
            Source::Fresh(entries) => entries.binary_search_by_key(&id, |(id, _)| *id).ok(),
        };
        offset.filter(|offset| self.members.contains(*offset))
    }

    /// The findings that a filter selects: as remembered, or as `select` finds them. Of a finding that has not changed the answer
    /// must always be the same.
    pub(crate) fn selected(
        &self,
        filter: &Arc<str>,
        select: impl FnOnce() -> Result<Bits, Error>,
    ) -> Result<Bits, Error> {
        let (Some(cache), Source::Stored(chunk, version)) = (&self.cache, &self.source) else {
            return select();
        };
        let key = (Arc::clone(filter), *chunk);
        if let Some(known) = cache.selections().get(&key)
            && known.version == *version
            // An older snapshot may have some that had changed in the one that was asked.
            && self.members.without(&known.among).is_empty()
        {
            return Ok(known.found.and(&self.members));
        }
        let found = select()?;
        let known = Selected {
            version: *version,
            among: self.members,
            found,
        };
        cache.selections().put(key, known);
        Ok(found)
    }

    /// The bytes of a column of terms, for [`Terms::read`].
    pub(crate) fn terms(&self, db: &Connection, column: u8) -> Result<Arc<[u8]>, Error> {
        match &self.source {
            Source::Stored(chunk, version) => self.piece(db, *chunk, *version, column),
            Source::Fresh(entries) => {
                let mut rows = Rows::default();
                for (_, entry) in entries {
                    rows.push(entry.column(column));
                }
                Ok(rows.encode().into())
            }
        }
    }

    /// The ids of everything that the findings of the batch have.
    pub(crate) fn all_terms(&self, db: &Connection) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        match &self.source {
            Source::Fresh(entries) => {
                let values = entries.iter().flat_map(|(_, entry)| &entry.values);
                ids.extend(values.map(|(_, _, id)| *id));
            }
            Source::Stored(chunk, _) => {
                for column in stored_columns(db, *chunk)? {
                    let bytes = piece(db, *chunk, column)?;
                    let terms = Terms::read(&bytes)?;
                    for offset in self.members.iter() {
                        ids.extend(terms.values(offset).iter().map(|(_, id)| *id));
                    }
                }
            }
        }
        Ok(ids)
    }

    fn piece(
        &self,
        db: &Connection,
        chunk: i64,
        version: i64,
        column: u8,
    ) -> Result<Arc<[u8]>, Error> {
        let Some(cache) = &self.cache else {
            return piece(db, chunk, column);
        };
        if let Some(body) = cache.get((chunk, column), version) {
            return Ok(body);
        }
        let body = piece(db, chunk, column)?;
        cache.put((chunk, column), version, &body);
        Ok(body)
    }

    /// A column of numbers, by offset.
    pub(crate) fn numbers(&self, db: &Connection, column: u8) -> Result<Vec<i64>, Error> {
        match &self.source {
            Source::Stored(chunk, version) => {
                decode_numbers(&self.piece(db, *chunk, *version, column)?)
            }
            Source::Fresh(entries) => Ok(entries
                .iter()
                .map(|(_, entry)| entry.numbers.get(usize::from(column)).copied())
                .map(Option::unwrap_or_default)
                .collect()),
        }
    }
}

/// Chunk and offset of a finding.
fn place(id: i64) -> (i64, usize) {
    let length = CHUNK as i64;
    let offset = usize::try_from(id.rem_euclid(length)).unwrap_or_default();
    (id.div_euclid(length), offset)
}

fn piece(db: &Connection, chunk: i64, column: u8) -> Result<Arc<[u8]>, Error> {
    let mut statement = db.prepare_cached("SELECT body FROM piece WHERE id = $1")?;
    let mut rows = statement.query([piece_id(chunk, column)])?;
    let Some(row) = rows.next()? else {
        return Ok(Arc::default());
    };
    let body = row.get_ref(0)?.as_blob().map_err(|_| Error::Damaged)?;
    Ok(body.into())
}

fn piece_id(chunk: i64, column: u8) -> i64 {
    chunk * 256 + i64::from(column)
}

/// Moves what changed lately into the columns, when there is enough of it to be worth it.
pub(crate) fn fold_if_many(db: &Connection) -> Result<(), Error> {
    let fresh: i64 = db
        .prepare_cached("SELECT count(*) FROM fresh")?
        .query_row([], |row| row.get(0))?;
    if fresh < FRESH_MAX { Ok(()) } else { fold(db) }
}

/// Moves what changed lately into the columns.
pub(crate) fn fold(db: &Connection) -> Result<(), Error> {
    let mut changes: BTreeMap<i64, Changes> = BTreeMap::new();
    let mut statement = db.prepare_cached("SELECT finding_id, body FROM fresh")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (chunk, offset) = place(row.get(0)?);
        let body = row
            .get_ref(1)?
            .as_blob_or_null()
            .map_err(|_| Error::Damaged)?;
        let entry = body.map(Entry::from_bytes).transpose()?;
        changes.entry(chunk).or_default().insert(offset, entry);
    }
    drop(rows);
    let version = db
        .prepare_cached("UPDATE fold SET count = count + 1 RETURNING count")?
        .query_row([], |row| row.get(0))?;
    for (chunk, changes) in &changes {
        fold_chunk(db, *chunk, version, changes)?;
    }
    db.prepare_cached("DELETE FROM fresh")?.execute([])?;
    Ok(())
}

/// By offset; `None` where a finding was removed.
type Changes = BTreeMap<usize, Option<Entry>>;

fn fold_chunk(db: &Connection, chunk: i64, version: i64, changes: &Changes) -> Result<(), Error> {
    let members: Option<Vec<u8>> = db
        .prepare_cached("SELECT members FROM chunk WHERE id = $1")?
        .query_row([chunk], |row| row.get(0))
        .optional()?;
    let mut members = members.map_or(Bits::EMPTY, |bytes| Bits::from_bytes(&bytes));
    for (offset, entry) in changes {
        match entry {
            Some(_) => members.insert(*offset),
            None => members.remove(*offset),
        }
    }
    let Some(last) = members.iter().last() else {
        db.prepare_cached("DELETE FROM chunk WHERE id = $1")?
            .execute([chunk])?;
        db.prepare_cached("DELETE FROM piece WHERE id BETWEEN $1 AND $2")?
            .execute([piece_id(chunk, 0), piece_id(chunk, u8::MAX)])?;
        return Ok(());
    };
    let mut times = Vec::new();
    for column in 0..NUMBERS as u8 {
        let numbers = fold_numbers(db, chunk, column, changes, &members)?;
        if column == 0 {
            times = numbers;
        }
    }
    fold_terms(db, chunk, changes, last + 1)?;
    let mut range = (i64::MAX, i64::MIN);
    for offset in members.iter() {
        let time = times.get(offset).copied().unwrap_or_default();
        range = (range.0.min(time), range.1.max(time));
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO chunk (id, version, oldest, newest, members) VALUES ($1, $2, $3, $4, $5)",
    )?
    .execute(params![
        chunk,
        version,
        range.0,
        range.1,
        members.to_bytes()
    ])?;
    Ok(())
}

fn fold_numbers(
    db: &Connection,
    chunk: i64,
    column: u8,
    changes: &Changes,
    members: &Bits,
) -> Result<Vec<i64>, Error> {
    let mut numbers = decode_numbers(&piece(db, chunk, column)?)?;
    let mut has_changed = false;
    for (offset, entry) in changes {
        let Some(entry) = entry else { continue };
        let number = entry.numbers.get(usize::from(column)).copied();
        let number = number.unwrap_or_default();
        if numbers.len() <= *offset {
            // Ids that were never used; any number between the others keeps the column narrow.
            numbers.resize(offset + 1, number);
            has_changed = true;
        }
        if let Some(slot) = numbers.get_mut(*offset)
            && *slot != number
        {
            *slot = number;
            has_changed = true;
        }
    }
    if has_changed {
        // What removed findings had must not widen the column for good.
        let fill = members
            .iter()
            .next()
            .and_then(|first| numbers.get(first).copied());
        for (offset, number) in numbers.iter_mut().enumerate() {
            if !members.contains(offset) {
                *number = fill.unwrap_or_default();
            }
        }
        write_piece(db, chunk, column, &encode_numbers(&numbers))?;
    }
    Ok(numbers)
}

fn fold_terms(db: &Connection, chunk: i64, changes: &Changes, rows: usize) -> Result<(), Error> {
    let mut columns = stored_columns(db, chunk)?;
    for entry in changes.values().flatten() {
        columns.extend(entry.values.iter().map(|(column, _, _)| *column));
    }
    for column in columns {
        let bytes = piece(db, chunk, column)?;
        let old = Terms::read(&bytes)?;
        let new = |entry: &Option<Entry>| -> Vec<_> {
            entry
                .iter()
                .flat_map(|entry| entry.column(column))
                .collect()
        };
        let is_same = |(offset, entry): (&usize, &Option<Entry>)| old.values(*offset) == new(entry);
        if changes.iter().all(is_same) {
            continue;
        }
        let patched = old.patched(rows, |offset| changes.get(&offset).map(new));
        write_piece(db, chunk, column, &patched.encode())?;
    }
    Ok(())
}

/// The columns of terms of which a chunk has a piece.
fn stored_columns(db: &Connection, chunk: i64) -> Result<BTreeSet<u8>, Error> {
    let mut columns = BTreeSet::new();
    let mut statement = db.prepare_cached("SELECT id FROM piece WHERE id BETWEEN $1 AND $2")?;
    let known = statement.query_map(
        [piece_id(chunk, NUMBERS as u8), piece_id(chunk, u8::MAX)],
        |row| row.get::<_, i64>(0),
    )?;
    for id in known {
        columns.extend(u8::try_from(id? - piece_id(chunk, 0)).ok());
    }
    Ok(columns)
}

fn write_piece(db: &Connection, chunk: i64, column: u8, body: &[u8]) -> Result<(), Error> {
    let id = piece_id(chunk, column);
    if body.is_empty() {
        db.prepare_cached("DELETE FROM piece WHERE id = $1")?
            .execute([id])?;
    } else {
        db.prepare_cached("INSERT OR REPLACE INTO piece (id, body) VALUES ($1, $2)")?
            .execute(params![id, body])?;
    }
    Ok(())
}

/// How often columns were written: the version of the chunks written last.
pub(crate) fn version(db: &Connection) -> Result<i64, Error> {
    Ok(db.query_row("SELECT count FROM fold", [], |row| row.get(0))?)
}

/// The values that some finding has, or had until lately, as far as it is not in a chunk of this version or an older one.
pub(crate) fn used_terms(db: &Connection, after: Option<i64>) -> Result<BTreeSet<u32>, Error> {
    let mut used = BTreeSet::new();
    // Those before it have numbers of another kind.
    let first = crate::layout::column_number("category");
    let mut statement = db.prepare_cached("SELECT id FROM chunk WHERE version > $1")?;
    let mut rows = statement.query([after.unwrap_or(i64::MIN)])?;
    while let Some(row) = rows.next()? {
        let chunk = row.get(0)?;
        for &column in stored_columns(db, chunk)?.range(first..) {
            used.extend(Terms::read(&piece(db, chunk, column)?)?.dictionary());
        }
    }
    let mut statement = db.prepare_cached("SELECT body FROM fresh WHERE body IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_blob().map_err(|_| Error::Damaged)?;
        used.extend(Entry::from_bytes(body)?.values.iter().map(|(_, _, id)| *id));
    }
    Ok(used)
}
