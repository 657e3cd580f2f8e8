//! The audit log: who changed what, when. Written in the transaction of the change.

use model::Timestamp;
use rusqlite::{Transaction, params};
use serde_json::Value;

use crate::{Change, Error, Store, ns, timestamp};

/// One change.
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
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, time, who, action, target, detail FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
            )?;
            let mut rows = statement.query(params![before, limit])?;
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

    /// Notes something that changed nothing in the store but matters, such as a refused login.
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
}

pub(crate) fn note(
    db: &Transaction<'_>,
    change: Change<'_>,
    action: &str,
    target: &str,
    detail: &Value,
) -> Result<(), Error> {
    db.prepare_cached(
        "INSERT INTO audit (time, who, action, target, detail) VALUES ($1, $2, $3, $4, $5)",
    )?
    .execute(params![
        ns(change.now),
        change.who,
        action,
        target,
        detail.to_string()
    ])?;
    Ok(())
}
