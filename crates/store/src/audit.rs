//! The audit log: who changed what, and who signed in, when. A change is written in its own transaction.

use model::Timestamp;
use rusqlite::{Params, Transaction, params};
use serde_json::Value;

use crate::{Change, Error, Store, ns, timestamp};

/// Refused logins that are kept. When more come, the oldest go: who has no token cannot fill the log.
const REFUSED_MAX: u32 = 1000;

/// Time in which one address's refused logins are one entry.
const REFUSED_TIME_NS: i64 = 3_600_000_000_000;

/// Bytes of an entry's detail, as JSON. Of a longer one the beginning is kept, as text.
const DETAIL_BYTES_MAX: usize = 16 * 1024;

const COLUMNS: &str = "id, time, who, action, target, detail";

/// One change or login.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Grows by one with each change; a page begins after the last one's.
    pub id: i64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub who: String,
    /// What, in words.
    pub action: String,
    /// Name of the thing changed.
    pub target: String,
    /// With which arguments, as JSON. No secrets.
    pub detail: Value,
}

impl Store {
    /// The newest changes with an id below `before` (all, for `i64::MAX`), newest first.
    pub fn audit_log(&self, before: i64, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2");
        self.entries(&sql, params![before, limit])
    }

    /// The newest changes to the thing of this name, newest first.
    pub fn audit_log_of(&self, target: &str, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let sql =
            format!("SELECT {COLUMNS} FROM audit WHERE target = $1 ORDER BY id DESC LIMIT $2");
        self.entries(&sql, params![target, limit])
    }

    fn entries(&self, sql: &str, params: impl Params) -> Result<Vec<AuditEntry>, Error> {
        self.database.read(|db| {
            let mut statement = db.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(AuditEntry {
                    id: row.get(0)?,
                    time: timestamp(row.get(1)?),
                    who: row.get(2)?,
                    action: row.get(3)?,
                    target: row.get(4)?,
                    detail: serde_json::from_str(&row.get::<_, String>(5)?)?,
                });
            }
            Ok(entries)
        })
    }

    /// Notes something that changed nothing in the store but matters, such as a login.
    pub fn note(
        &self,
        change: Change<'_>,
        action: &str,
        target: &str,
        detail: &Value,
    ) -> Result<(), Error> {
        self.database
            .write(|db| note(db, change, action, target, detail))
    }

    /// Notes a refused login from an address: one entry an hour, and a limited number in all.
    pub fn note_refused_login(&self, address: &str, now: Timestamp) -> Result<(), Error> {
        self.database.write(|db| {
            let is_known = db
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM audit WHERE target = $1 AND action = 'refuse login' AND time > $2)",
                )?
                .query_row(params![address, ns(now) - REFUSED_TIME_NS], |row| row.get(0))?;
            if is_known {
                return Ok(());
            }
            let change = Change { who: "", now };
            note(db, change, "refuse login", address, &Value::Null)?;
            db.prepare_cached(
                "DELETE FROM audit WHERE action = 'refuse login' AND id <= \
                 (SELECT id FROM audit WHERE action = 'refuse login' ORDER BY time DESC, id DESC LIMIT 1 OFFSET $1)",
            )?
            .execute([REFUSED_MAX])?;
            Ok(())
        })
    }
}

pub(crate) fn note(
    db: &Transaction<'_>,
    change: Change<'_>,
    action: &str,
    target: &str,
    detail: &Value,
) -> Result<(), Error> {
    let mut detail = detail.to_string();
    if detail.len() > DETAIL_BYTES_MAX {
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        detail = Value::String(detail + "…").to_string();
    }
    db.prepare_cached(
        "INSERT INTO audit (time, who, action, target, detail) VALUES ($1, $2, $3, $4, $5)",
    )?
    .execute(params![ns(change.now), change.who, action, target, detail])?;
    Ok(())
}
