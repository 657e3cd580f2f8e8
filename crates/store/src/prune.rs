//! Retention: findings whose last event is old go, with everything that was kept of them.

use model::Timestamp;

use crate::index::Index;
use crate::select::{Direction, Selection};
use crate::{Error, Store, ns};

/// Days after which findings go, unless configured. SCC's, for those who joined since May 2025.
pub const RETENTION_DAYS_DEFAULT: u32 = 90;

/// Findings removed in one transaction: short enough for the agent to get its turn.
const BATCH: i64 = 200;

/// Values looked at in one transaction.
const TERM_BATCH: i64 = 10_000;

impl Store {
    /// Removes the findings whose event time is before this, and audit entries as old. Returns the number of findings.
    pub fn prune(&self, before: Timestamp) -> Result<u64, Error> {
        let mut total = 0;
        let old = Selection { parts: Vec::new() };
        loop {
            let removed = self.database.write(|db| {
                let places = old.in_time_order(db, Direction::OldestFirst, None, BATCH)?;
                let mut index = Index::new(db, &self.database);
                let mut removed = 0;
                for (time, id) in places {
                    if time >= ns(before) {
                        break;
                    }
                    let stored = index.load_id(id)?;
                    index.delete(&stored)?;
                    removed += 1;
                }
                index.finish()?;
                Ok(removed)
            })?;
            total += removed;
            if removed == 0 {
                break;
            }
        }
        self.database.write(|db| {
            db.execute("DELETE FROM audit WHERE time < $1", [ns(before)])?;
            db.execute("DELETE FROM tally WHERE n = 0", [])?;
            Ok(())
        })?;
        self.forget_unused_terms()?;
        Ok(total)
    }
    /// Removes values that no finding has any more. A query that runs meanwhile reads a snapshot that has them.
    fn forget_unused_terms(&self) -> Result<(), Error> {
        let last: i64 = self.database.read(|db| {
            Ok(
                db.query_row("SELECT coalesce(max(id), 0) FROM term", [], |row| {
                    row.get(0)
                })?,
            )
        })?;
        let mut first = 0;
        while first <= last {
            self.database.write(|db| {
                db.prepare_cached(
                    "DELETE FROM term WHERE id >= $1 AND id < $2 \
                     AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.term_id = term.id)",
                )?
                .execute([first, first + TERM_BATCH])?;
                Ok(())
            })?;
            first += TERM_BATCH;
        }
        self.database.forget_term_ids();
        Ok(())
    }
}
