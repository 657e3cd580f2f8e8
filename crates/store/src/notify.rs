//! The queue of notifications: written with the change that they tell of, kept until their sink has taken them.

use std::fs::{File, TryLockError};

use model::Timestamp;
use model::finding::FindingResult;
use rusqlite::{Transaction, params};

use crate::database::{lock_file, open_error};
use crate::filter::Condition;
use crate::index::Index;
use crate::name::all_sources_of;
use crate::select::{self, One};
use crate::{Error, Store, filter, ns, timestamp};

/// Notifications that wait for one sink. When more come, the oldest are given up and counted.
const WAITING_MAX: i64 = 100_000;

/// Bytes that wait for one sink, likewise: as many of common findings, but not of the largest.
const WAITING_BYTES_MAX: i64 = 512 * 1024 * 1024;

/// Notifications given up with each that comes: of an old store there may be many too many.
const GIVEN_UP_AT_A_TIME: u32 = 64;

/// Bytes kept of an error.
const ERROR_BYTES_MAX: usize = 1024;

/// Days for which a sink that no configuration has any more, and a notification config whose topic names no sink, keeps what
/// waits for it. Long enough to mend a start without
/// the configuration file, short enough that what nobody wants does not gather for ever.
pub const UNCONFIGURED_DAYS_MAX: u64 = 7;

/// In the state directory: locked by the process that sends notifications, for as long as it does.
const LOCK_FILE: &str = "notifier.lock";

/// The right to send what waits, until dropped or until the process ends in whatever way.
#[derive(Debug)]
pub struct NotifierLock {
    _file: File,
}

/// A notification that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its number. When the newest is taken off the queue, the next one made gets the same number.
    pub id: i64,
    /// The sink that it waits for.
    pub sink: String,
    /// The finding as it was when it changed.
    pub result: FindingResult,
    /// When it changed.
    pub created: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
}

/// How a sink does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkState {
    /// Its name.
    pub name: String,
    /// Which findings it gets.
    pub filter: String,
    /// Notifications that wait.
    pub waiting: u64,
    /// Given up because too many waited.
    pub dropped: u64,
    /// Given up because the receiver refused them again and again.
    pub refused: u64,
    /// Why it refused the last of these.
    pub refusal: String,
    /// When the oldest that waits was made.
    pub oldest: Option<Timestamp>,
    /// Why the oldest that waits has failed; empty when it has not.
    pub error: String,
    /// Since when no configuration has it; `None` while one has, and for notification configs.
    pub unconfigured: Option<Timestamp>,
}

impl Store {
    /// Adds a sink or changes its filter. It gets what changes from now on. Notification configs are sinks under their
    /// own names without this, and get what changes while their topic names another sink.
    pub fn set_sink(&self, name: &str, filter: &str) -> Result<(), Error> {
        filter::check(filter)?;
        self.database.write(|db| set_sink(db, name, filter))
    }

    /// Marks the sinks that are none of these as not configured, notification configs aside. What waits for them is kept,
    /// and more is queued, until they have been so for [`UNCONFIGURED_DAYS_MAX`]: then they are removed with their queue.
    /// [`Store::set_sink`] takes the mark away.
    pub fn retire_other_sinks(&self, configured: &[&str], now: Timestamp) -> Result<(), Error> {
        let configured = serde_json::to_string(configured)?;
        let days = i64::try_from(UNCONFIGURED_DAYS_MAX).unwrap_or(i64::MAX);
        let expired_before = ns(now).saturating_sub(days.saturating_mul(24 * 3_600_000_000_000));
        self.database.write(|db| {
            db.execute(
                // Only names of notification configs have slashes.
                "UPDATE sink SET unconfigured = $1 WHERE unconfigured IS NULL AND instr(name, '/') = 0 \
                 AND name NOT IN (SELECT value FROM json_each($2))",
                params![ns(now), configured],
            )?;
            let expired: Vec<String> = db
                .prepare("SELECT name FROM sink WHERE unconfigured <= $1")?
                .query_map([expired_before], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            expired.iter().try_for_each(|name| remove(db, name))?;
            db.execute(
                &format!(
                    "DELETE FROM delivery WHERE created <= $1 \
                     AND sink IN (SELECT name FROM sink s WHERE NOT {HAS_TARGET})"
                ),
                [expired_before],
            )?;
            Ok(())
        })
    }

    /// Asks for the right to send: one process at a time has it, so that nothing is sent by two. `None` while another has.
    pub fn lock_notifier(&self) -> Result<Option<NotifierLock>, Error> {
        let file = lock_file(&self.database.directory().join(LOCK_FILE))?;
        Ok(file.map(|file| NotifierLock { _file: file }))
    }

    /// Whether some process, this one or another, has the right to send.
    pub fn is_notifier_running(&self) -> Result<bool, Error> {
        let path = self.database.directory().join(LOCK_FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(open_error(&path, source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(open_error(&path, source)),
        }
    }

    /// All sinks, with what waits for them.
    pub fn sinks(&self) -> Result<Vec<SinkState>, Error> {
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT s.name, s.filter, s.dropped, s.waiting, \
                 (SELECT created FROM delivery d WHERE d.sink = s.name ORDER BY d.id LIMIT 1), \
                 (SELECT error FROM delivery d WHERE d.sink = s.name ORDER BY d.id LIMIT 1), \
                 s.unconfigured, s.refused, s.refusal FROM sink s ORDER BY s.name",
            )?;
            let states = statement.query_map([], |row| {
                Ok(SinkState {
                    name: row.get(0)?,
                    filter: row.get(1)?,
                    dropped: row.get::<_, i64>(2)?.unsigned_abs(),
                    waiting: row.get::<_, i64>(3)?.unsigned_abs(),
                    oldest: row.get::<_, Option<i64>>(4)?.map(timestamp),
                    error: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
                    refused: row.get::<_, i64>(7)?.unsigned_abs(),
                    refusal: row.get(8)?,
                    unconfigured: row.get::<_, Option<i64>>(6)?.map(timestamp),
                })
            })?;
            Ok(states.collect::<Result<_, _>>()?)
        })
    }

    /// Notifications of a sink that are due, at most one of each finding: the next comes when the first is delivered,
    /// so that their order holds. A crash between sending and [`Store::delivered`] sends again.
    pub fn due(&self, sink: &str, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, Error> {
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, body, created, attempts FROM delivery d WHERE sink = $1 AND next_try <= $2 \
                 AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.sink = d.sink AND e.finding = d.finding AND e.id < d.id) \
                 ORDER BY next_try, id LIMIT $3",
            )?;
            let mut rows = statement.query(params![sink, ns(now), limit])?;
            let mut due = Vec::new();
            while let Some(row) = rows.next()? {
                due.push(Delivery {
                    id: row.get(0)?,
                    sink: sink.to_owned(),
                    result: serde_json::from_str(&row.get::<_, String>(1)?)?,
                    created: timestamp(row.get(2)?),
                    attempts: row.get(3)?,
                });
            }
            Ok(due)
        })
    }

    /// When the next notification of a sink becomes due. `None` when none waits.
    pub fn next_due(&self, sink: &str) -> Result<Option<Timestamp>, Error> {
        self.database.read(|db| {
            let next: Option<i64> = db
                .prepare_cached("SELECT min(next_try) FROM delivery WHERE sink = $1")?
                .query_row([sink], |row| row.get(0))?;
            Ok(next.map(timestamp))
        })
    }

    /// Takes a notification that arrived off the queue. Does nothing when it is gone.
    pub fn delivered(&self, delivery: &Delivery) -> Result<(), Error> {
        self.database.write(|db| take_off(db, delivery).map(drop))
    }

    /// Takes a notification off the queue that its receiver refuses, and counts it. Does nothing when it is gone.
    pub fn give_up(&self, delivery: &Delivery, why: &str) -> Result<(), Error> {
        self.database.write(|db| {
            if take_off(db, delivery)? {
                db.execute(
                    "UPDATE sink SET refused = refused + 1, refusal = $1 WHERE name = $2",
                    params![shortened(why), delivery.sink],
                )?;
            }
            Ok(())
        })
    }

    /// Notes a failed attempt and when to try again. Does nothing when the notification is gone.
    pub fn delivery_failed(
        &self,
        delivery: &Delivery,
        error: &str,
        next_try: Timestamp,
    ) -> Result<(), Error> {
        let Delivery { id, sink, .. } = delivery;
        self.database.write(|db| {
            let found = db.execute(
                "UPDATE delivery SET attempts = attempts + 1, error = $1 WHERE id = $2 AND sink = $3 AND created = $4",
                params![shortened(error), id, sink, ns(delivery.created)],
            )?;
            if found > 0 {
                // What comes after it waits for it.
                db.execute(
                    "UPDATE delivery SET next_try = $1 WHERE id >= $2 AND sink = $3 \
                     AND finding = (SELECT finding FROM delivery WHERE id = $2)",
                    params![ns(next_try), id, sink],
                )?;
            }
            Ok(())
        })
    }
}

/// Whether the sink `s` is one of the configuration, or a notification config whose topic names one: `.../topics/NAME`. Only
/// names of notification configs have slashes.
const HAS_TARGET: &str = "(instr(s.name, '/') = 0 OR EXISTS (SELECT 1 FROM resource r, sink t \
     WHERE r.kind = 'notificationConfigs' AND r.parent = substr(s.name, 1, instr(s.name, '/notificationConfigs/') - 1) \
     AND r.name = s.name AND instr(t.name, '/') = 0 \
     AND substr(r.body ->> 'pubsubTopic', -length(t.name) - 8) = '/topics/' || t.name))";

/// Deletes this very notification: its number can be that of another by now, when it was dropped while it was on its way.
fn take_off(db: &Transaction<'_>, delivery: &Delivery) -> Result<bool, Error> {
    let gone = db
        .prepare_cached("DELETE FROM delivery WHERE id = $1 AND sink = $2 AND created = $3")?
        .execute(params![delivery.id, delivery.sink, ns(delivery.created)])?;
    Ok(gone > 0)
}

fn shortened(error: &str) -> &str {
    &error[..error.floor_char_boundary(ERROR_BYTES_MAX)]
}

pub(crate) fn set_sink(db: &Transaction<'_>, name: &str, filter: &str) -> Result<(), Error> {
    db.execute(
        "INSERT INTO sink (name, filter) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET filter = excluded.filter, unconfigured = NULL",
        params![name, filter],
    )?;
    Ok(())
}

pub(crate) fn forget_sink(db: &Transaction<'_>, kind: &str, name: &str) -> Result<(), Error> {
    if kind == "notificationConfigs" {
        remove(db, name)?;
    }
    Ok(())
}

fn remove(db: &Transaction<'_>, name: &str) -> Result<(), Error> {
    db.execute("DELETE FROM delivery WHERE sink = $1", [name])?;
    db.execute("DELETE FROM sink WHERE name = $1", [name])?;
    Ok(())
}

/// A sink, ready to have findings held against its filter.
pub(crate) struct Sink {
    name: String,
    filter: Condition,
}

/// All that are to be told. A filter that an earlier version took and this one refuses lets everything pass: what nobody asked
/// for can be thrown away, what was kept back cannot be read.
pub(crate) fn sinks(db: &Transaction<'_>) -> Result<Vec<Sink>, Error> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT name, filter FROM sink s WHERE {HAS_TARGET}"
    ))?;
    let mut rows = statement.query([])?;
    let mut sinks = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, filter): (String, String) = (row.get(0)?, row.get(1)?);
        // A notification config sends what is under its own parent; a sink of the configuration file sends everything.
        let parent = match name.contains("/notificationConfigs/") {
            true => all_sources_of(&name),
            false => String::new(),
        };
        let filter = select::compile(&parent, &filter).or_else(|_| select::compile(&parent, ""))?;
        sinks.push(Sink { name, filter });
    }
    Ok(sinks)
}

/// Queues a finding, as it is now, for each sink whose filter it matches.
pub(crate) fn queue(
    index: &Index<'_>,
    id: i64,
    result: &FindingResult,
    now: Timestamp,
) -> Result<(), Error> {
    if index.sinks.is_empty() {
        return Ok(());
    }
    let Some(finding) = One::load(index.db, id)? else {
        return Ok(());
    };
    let db = index.db;
    for Sink { name: sink, filter } in &index.sinks {
        if !finding.matches(db, filter)? {
            continue;
        }
        db.prepare_cached(
            "INSERT INTO delivery (sink, finding, body, created, next_try) VALUES ($1, $2, $3, $4, \
             coalesce((SELECT max(next_try) FROM delivery WHERE sink = $1 AND finding = $2 AND next_try > $4), $4))",
        )?
        .execute(params![
            sink,
            result.finding.name,
            serde_json::to_string(result)?,
            ns(now)
        ])?;
        give_up_oldest(db, sink)?;
    }
    Ok(())
}

fn give_up_oldest(db: &Transaction<'_>, sink: &str) -> Result<(), Error> {
    let mut is_full =
        db.prepare_cached("SELECT waiting > $1 OR bytes > $2 FROM sink WHERE name = $3")?;
    for _ in 0..GIVEN_UP_AT_A_TIME {
        if !is_full.query_row(params![WAITING_MAX, WAITING_BYTES_MAX, sink], |row| {
            row.get(0)
        })? {
            break;
        }
        db.prepare_cached(
            "DELETE FROM delivery WHERE id = (SELECT id FROM delivery WHERE sink = $1 ORDER BY id LIMIT 1)",
        )?
        .execute([sink])?;
        db.prepare_cached("UPDATE sink SET dropped = dropped + 1 WHERE name = $1")?
            .execute([sink])?;
    }
    Ok(())
}
