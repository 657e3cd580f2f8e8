//! Retention: findings whose last event is old go, with everything that was kept of them.

use model::Timestamp;

use crate::index::Index;
use crate::order;
use crate::select::Selection;
use crate::{Error, Store, chunk, ns};

/// Days after which findings go, unless configured. SCC's, for those who joined since May 2025.
pub const RETENTION_DAYS_DEFAULT: u32 = 90;

/// Findings removed in one transaction: short enough for the agent to get its turn.
const BATCH: usize = 200;

/// Values looked at in one transaction.
const TERM_BATCH: i64 = 100_000;

impl Store {
    /// Removes the findings whose event time is before this, and audit entries as old. Returns the number of findings.
    pub fn prune(&self, before: Timestamp) -> Result<u64, Error> {
        let mut total = 0;
        let old = Selection::all();
        loop {
            let removed = self.database.write(|db| {
                let places = order::oldest(db, None, &old, None, BATCH)?;
                let mut index = Index::new(db, &self.database);
                let mut removed = 0;
                for (time, id) in places {
                    if time >= ns(before) {
                        break;
                    }
                    index.delete(id)?;
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
            Ok(())
        })?;
        self.forget_unused_terms()?;
        Ok(total)
    }
    /// Removes values that no finding has any more. A query that runs meanwhile reads a snapshot that has them.
    fn forget_unused_terms(&self) -> Result<(), Error> {
        let mut next = 0;
        loop {
            let terms = self.database.write(|db| {
                let terms: Vec<u32> = db
                    .prepare_cached("SELECT id FROM term WHERE id >= $1 ORDER BY id LIMIT $2")?
                    .query_map([next, TERM_BATCH], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                // In the same transaction, so that no finding takes one of them meanwhile.
                let used = chunk::used_terms(db)?;
                let mut delete = db.prepare_cached("DELETE FROM term WHERE id = $1")?;
                for id in terms.iter().filter(|id| !used.contains(id)) {
                    delete.execute([id])?;
                }
                Ok(terms)
            })?;
            match terms.last() {
                Some(last) => next = i64::from(*last) + 1,
                None => break,
            }
        }
        self.database.forget_term_ids();
        Ok(())
    }
}
