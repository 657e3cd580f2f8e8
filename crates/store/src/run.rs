//! Runs of the agent, so that the time nobody watched is known afterwards.

use model::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::{Error, Store, ns, timestamp};

/// A stretch of time in which no agent watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The previous run's end, or its last sign of life.
    pub from: Timestamp,
    /// Start of this run.
    pub to: Timestamp,
    /// How the previous run ended.
    pub kind: GapKind,
}

/// How the run before a gap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapKind {
    /// It was stopped in order.
    Stopped,
    /// It vanished: killed, crashed, or the machine went down.
    Lost,
}

impl Store {
    /// Opens a run. Returns the gap since the previous one; `None` when this is the first.
    pub fn begin_run(&self, now: Timestamp) -> Result<Option<Gap>, Error> {
        self.database.write(|db| {
            let previous = db
                .query_row(
                    "SELECT heartbeat, ended FROM run ORDER BY id DESC LIMIT 1",
                    [],
                    |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
                )
                .optional()?;
            db.execute(
                "INSERT INTO run (began, heartbeat) VALUES ($1, $1)",
                params![ns(now)],
            )?;
            Ok(previous.map(|(heartbeat, ended)| Gap {
                from: timestamp(ended.unwrap_or(heartbeat)),
                to: now,
                kind: if ended.is_some() {
                    GapKind::Stopped
                } else {
                    GapKind::Lost
                },
            }))
        })
    }

    /// Notes that the agent lives.
    pub fn heartbeat(&self, now: Timestamp) -> Result<(), Error> {
        self.database.write(|db| {
            db.execute(
                "UPDATE run SET heartbeat = $1 WHERE id = (SELECT max(id) FROM run)",
                params![ns(now)],
            )?;
            Ok(())
        })
    }

    /// Closes the run: it was stopped in order.
    pub fn end_run(&self, now: Timestamp) -> Result<(), Error> {
        self.database.write(|db| {
            db.execute(
                "UPDATE run SET heartbeat = $1, ended = $1 WHERE id = (SELECT max(id) FROM run)",
                params![ns(now)],
            )?;
            Ok(())
        })
    }

    /// The last sign of life of the agent, and whether its run has ended. `None` when it never ran.
    pub fn last_heartbeat(&self) -> Result<Option<(Timestamp, bool)>, Error> {
        self.database.read(|db| {
            Ok(db
                .query_row(
                    "SELECT heartbeat, ended IS NOT NULL FROM run ORDER BY id DESC LIMIT 1",
                    [],
                    |row| Ok((timestamp(row.get(0)?), row.get(1)?)),
                )
                .optional()?)
        })
    }
}
