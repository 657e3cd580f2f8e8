//! The SQLite file: opening, migrating, one writer, a small pool of readers.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use model::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::chunk::Cache;
use crate::column::CHUNK;
use crate::index::Index;
use crate::terms::Term;
use crate::{Error, ns, sql, terms};

const FILE_NAME: &str = "hullwatch.db";

/// How long a statement waits for another process's write. Writes last milliseconds; this is for a stalled disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one question may take. Far above what columns answer in, far below what would starve other readers: a
/// search for text looks at each value of the field.
const READ_TIME_MAX: Duration = Duration::from_secs(20);

/// Steps of SQLite's virtual machine between two looks at the clock.
const STEPS_BETWEEN_CHECKS: i32 = 100_000;

/// 32 MiB of log. A page that many transactions change is written to the file once; SQLite's own 4 MiB would write it with
/// nearly each.
const PAGES_BETWEEN_CHECKPOINTS: i64 = 8192;

/// Idle readers kept open. More are opened when more threads read, and closed afterwards.
const IDLE_READERS_MAX: usize = 4;

/// Forward only; the number is the schema version after it.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../migrations/sqlite/0001_findings.sql")),
    (2, include_str!("../migrations/sqlite/0002_access.sql")),
    (3, include_str!("../migrations/sqlite/0003_review.sql")),
    (4, include_str!("../migrations/sqlite/0004_columns.sql")),
    (5, include_str!("../migrations/sqlite/0005_ends.sql")),
    (6, include_str!("../migrations/sqlite/0006_fields.sql")),
    (7, include_str!("../migrations/sqlite/0007_nested.sql")),
    (8, include_str!("../migrations/sqlite/0008_numbers.sql")),
    (9, include_str!("../migrations/sqlite/0009_queues.sql")),
    (10, include_str!("../migrations/sqlite/0010_all_fields.sql")),
    (
        11,
        include_str!("../migrations/sqlite/0011_own_numbers.sql"),
    ),
    (12, include_str!("../migrations/sqlite/0012_compressed.sql")),
    (13, include_str!("../migrations/sqlite/0013_lists.sql")),
];

/// The version from which on the columns hold what they hold now: to reach it they are filled anew.
const COLUMNS_VERSION: i64 = 11;

/// An open database. Shared between threads by reference.
pub(crate) struct Database {
    path: PathBuf,
    /// `None` for read-only use.
    writer: Option<Mutex<Connection>>,
    readers: Mutex<Vec<Connection>>,
    term_ids: Mutex<TermIds>,
    cache: Arc<Cache>,
    /// SQLite's count of what other processes have written, when the ids were last known to be right.
    others: AtomicI64,
    /// The newest term when those that no finding has were last looked for; `i64::MAX` before the first time.
    pub(crate) terms_looked_at: AtomicI64,
}

/// Ids of terms used lately.
pub(crate) struct TermIds {
    /// By two hashes, whose keys nobody knows: two terms never have both the same.
    lately: LruCache<(u64, u64), u32>,
    hashers: [RandomState; 2],
}

/// Ids of terms kept: those of thousands of containers' findings, in some 9 MiB.
const TERM_IDS_MAX: usize = 128 * 1024;

impl Default for TermIds {
    fn default() -> Self {
        Self {
            lately: LruCache::unbounded(),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }
}

impl TermIds {
    fn key(&self, term: &Term) -> (u64, u64) {
        let [first, second] = &self.hashers;
        (first.hash_one(term), second.hash_one(term))
    }

    /// The id of a term, from here or else as `find` finds or makes it.
    pub(crate) fn get(
        &mut self,
        term: &Term,
        find: impl FnOnce() -> Result<u32, Error>,
    ) -> Result<u32, Error> {
        let key = self.key(term);
        if let Some(id) = self.lately.get(&key) {
            return Ok(*id);
        }
        let id = find()?;
        if self.lately.len() >= TERM_IDS_MAX {
            self.lately.pop_lru();
        }
        self.lately.put(key, id);
        Ok(id)
    }
}

impl Database {
    pub(crate) fn open(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(FILE_NAME);
        let fail = |path: &Path, source| Error::Open {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|source| fail(state_dir, source))?;
        // Findings quote arguments and environments: for the owner alone. The WAL takes the mode of the file.
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| fail(&path, source))?;
        let mut writer = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writer.busy_timeout(BUSY_TIMEOUT)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        // In WAL mode only FULL makes a commit survive power loss; a finding is announced after its commit.
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "foreign_keys", true)?;
        writer.pragma_update(None, "wal_autocheckpoint", PAGES_BETWEEN_CHECKPOINTS)?;
        writer.pragma_update(None, "cache_size", -16 * 1024)?;
        writer.set_prepared_statement_cache_capacity(128);
        keep_plans(&writer)?;
        add_functions(&writer)?;
        migrate(&mut writer)?;
        Ok(Self {
            path,
            writer: Some(Mutex::new(writer)),
            readers: Mutex::default(),
            term_ids: Mutex::default(),
            cache: Arc::default(),
            others: AtomicI64::new(-1),
            terms_looked_at: AtomicI64::new(i64::MAX),
        })
    }

    pub(crate) fn open_read_only(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(FILE_NAME);
        // What cannot be reached (the directory is its owner's alone) is not missing.
        if let Err(source) = fs::metadata(&path) {
            return Err(match source.kind() {
                io::ErrorKind::NotFound => Error::Missing { path },
                _ => Error::Open { path, source },
            });
        }
        let database = Self {
            path,
            writer: None,
            readers: Mutex::default(),
            term_ids: Mutex::default(),
            cache: Arc::default(),
            others: AtomicI64::new(-1),
            terms_looked_at: AtomicI64::new(i64::MAX),
        };
        let (found, known) = database.read(|db| Ok((schema_version(db)?, newest())))?;
        if found > known {
            return Err(Error::NewerSchema { found, known });
        }
        if found < known {
            return Err(Error::OlderSchema {
                found,
                known,
                takes_long: found < COLUMNS_VERSION,
            });
        }
        Ok(database)
    }

    /// The state directory.
    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Runs `body` in one transaction that holds the write lock from the start, and commits it unless it fails.
    pub(crate) fn write<T>(
        &self,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| Error::invalid("store", "opened for reading only"))?;
        let mut connection = lock(writer);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let others = transaction.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        if self.others.swap(others, Ordering::Relaxed) != others {
            // Another process may have removed terms.
            self.forget_term_ids();
        }
        let result = body(&transaction).and_then(|value| {
            transaction.commit()?;
            Ok(value)
        });
        if result.is_err() {
            // Terms that were added are gone with the rest.
            self.forget_term_ids();
        }
        result
    }

    /// Columns read lately. Not for use within [`Database::write`], which may be undone.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The cache of term ids. Only for use within [`Database::write`].
    pub(crate) fn term_ids(&self) -> MutexGuard<'_, TermIds> {
        lock(&self.term_ids)
    }

    /// To be called when terms were removed.
    pub(crate) fn forget_term_ids(&self) {
        self.term_ids().lately.clear();
    }

    /// Runs `body` on a reader, in one snapshot.
    pub(crate) fn read<T>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let idle = lock(&self.readers).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.reader()?,
        };
        let end = Instant::now() + READ_TIME_MAX;
        connection.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || Instant::now() > end))?;
        let result = (|| {
            let transaction = connection.transaction()?;
            body(&transaction)
        })();
        let mut readers = lock(&self.readers);
        if readers.len() < IDLE_READERS_MAX {
            readers.push(connection);
        }
        result
    }

    fn reader(&self) -> Result<Connection, Error> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", -8 * 1024)?;
        connection.set_prepared_statement_cache_capacity(64);
        add_functions(&connection)?;
        Ok(connection)
    }
}

/// Statements are planned once, not anew for each value that is bound: that takes longer than most of them.
fn keep_plans(connection: &Connection) -> Result<(), Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn add_functions(connection: &Connection) -> Result<(), Error> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function(sql::NUMBER, 1, flags, |context| {
        Ok(match context.get_raw(0) {
            ValueRef::Integer(number) => Some(number as f64),
            ValueRef::Real(number) => Some(number),
            text => text.as_str().ok().and_then(terms::number),
        })
    })?;
    connection.create_scalar_function(sql::NANOSECONDS, 1, flags, |context| {
        let text = context.get_raw(0).as_str().ok();
        Ok(text.and_then(Timestamp::parse).map(ns))
    })?;
    Ok(())
}

/// A panic elsewhere leaves no half-written state behind: a transaction that is dropped rolls back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, _)| *version)
}

fn schema_version(connection: &Connection) -> Result<i64, Error> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn migrate(connection: &mut Connection) -> Result<(), Error> {
    // The lock comes first: two processes may start at once.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = schema_version(&transaction)?;
    if found > newest() {
        return Err(Error::NewerSchema {
            found,
            known: newest(),
        });
    }
    for (version, sql) in MIGRATIONS.iter().filter(|(version, _)| *version > found) {
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    if found < COLUMNS_VERSION {
        fill_columns(&transaction)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Fills the columns from the documents.
fn fill_columns(db: &Transaction<'_>) -> Result<(), Error> {
    let term_ids = Mutex::default();
    let mut after = i64::MIN;
    loop {
        let mut index = Index::with(db, lock(&term_ids))?;
        let ids: Vec<i64> = db
            .prepare_cached("SELECT id FROM finding WHERE id > $1 ORDER BY id LIMIT $2")?
            .query_map((after, CHUNK as i64), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in &ids {
            let stored = index.load_id(*id)?;
            index.refresh(stored)?;
        }
        index.finish()?;
        match ids.last() {
            Some(last) => after = *last,
            None => return Ok(()),
        }
    }
}

/// Opens a file and locks it for as long as it is open. `None` while another has it locked.
pub(crate) fn lock_file(path: &Path) -> Result<Option<File>, Error> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|source| open_error(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(open_error(path, source)),
    }
}

pub(crate) fn open_error(path: &Path, source: io::Error) -> Error {
    Error::Open {
        path: path.to_owned(),
        source,
    }
}
