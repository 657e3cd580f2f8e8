//! Retention: findings whose last event is old go, with everything that was kept of them.

use std::sync::atomic::Ordering;

use model::Timestamp;
use rusqlite::Connection;

use crate::index::Index;
use crate::order;
use crate::select::Selection;
use crate::{Error, Store, chunk, ns};

/// Days after which findings go, unless configured. SCC's, for those who joined since May 2025.
pub const RETENTION_DAYS_DEFAULT: u32 = 90;

/// Findings removed in one transaction: short enough for the agent to get its turn.
const BATCH: usize = 200;

/// Values removed in one transaction.
const TERM_BATCH: usize = 10_000;

/// When no finding was removed, as many values must have come for it to be worth looking for those that none has any more.
const TERMS_NEW_MIN: i64 = 100_000;

impl Store {
    /// Removes the findings whose event time is before this, and audit entries as old. Returns the number of findings.
    pub fn prune(&self, before: Timestamp) -> Result<u64, Error> {
        let mut total = 0;
        let old = Selection::all();
        loop {
            let removed = self.database.write(|db| {
                let places = order::oldest(db, None, &old, None, BATCH)?;
                let mut index = Index::new(db, &self.database)?;
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
        let newest = self.database.read(newest_term)?;
        let looked = self.database.terms_looked_at.load(Ordering::Relaxed);
        if total > 0 || newest - looked >= TERMS_NEW_MIN {
            let unused = self.database.read(Unused::find)?;
            self.forget(unused)?;
        }
        self.database
            .terms_looked_at
            .store(newest, Ordering::Relaxed);
        Ok(total)
    }

    /// Removes values that no finding has any more. A query that runs meanwhile reads a snapshot that has them.
    fn forget(&self, unused: Unused) -> Result<(), Error> {
        for terms in unused.terms.chunks(TERM_BATCH) {
            self.database.write(|db| {
                // In the same transaction: a finding may have taken one of them since.
                let used = chunk::used_terms(db, Some(unused.version))?;
                let mut delete = db.prepare_cached("DELETE FROM term WHERE id = $1")?;
                for id in terms.iter().filter(|id| !used.contains(id)) {
                    delete.execute([id])?;
                }
                Ok(())
            })?;
            self.database.forget_term_ids();
        }
        Ok(())
    }
}

/// Values that no finding had at one moment.
struct Unused {
    terms: Vec<u32>,
    /// The version of the columns then.
    version: i64,
}

impl Unused {
    fn find(db: &Connection) -> Result<Self, Error> {
        let used = chunk::used_terms(db, None)?;
        // The newest stays: the next one gets the number after it, so that no number is ever used again.
        let mut statement =
            db.prepare_cached("SELECT id FROM term WHERE id < (SELECT max(id) FROM term)")?;
        let mut rows = statement.query([])?;
        let mut terms = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            if !used.contains(&id) {
                terms.push(id);
            }
        }
        Ok(Self {
            terms,
            version: chunk::version(db)?,
        })
    }
}

fn newest_term(db: &Connection) -> Result<i64, Error> {
    Ok(
        db.query_row("SELECT coalesce(max(id), 0) FROM term", [], |row| {
            row.get(0)
        })?,
    )
}

#[cfg(test)]
mod tests {
    use model::finding::{Finding, FindingResult, Resource};

    use super::*;

    fn finding(name: &str, category: &str, time: u64) -> FindingResult {
        FindingResult {
            finding: Finding {
                name: format!("organizations/1/sources/1/findings/{name}"),
                category: category.to_owned(),
                event_time: Some(Timestamp(time)),
                ..Finding::default()
            },
            resource: Resource::default(),
        }
    }

    #[test]
    fn a_value_that_is_taken_again_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let many = |names: std::ops::Range<u32>, category: &str| -> Vec<_> {
            names
                .map(|name| finding(&name.to_string(), category, name.into()))
                .collect()
        };
        store.record(&many(0..10, "one")).unwrap();
        store.record(&many(10..20, "two")).unwrap();
        for (first, category) in [(10_000, "one"), (20_000, "two")] {
            store
                .database
                .write(|db| {
                    let mut index = Index::new(db, &store.database)?;
                    for (_, id) in order::oldest(db, None, &Selection::all(), None, 10)? {
                        index.delete(id)?;
                    }
                    index.finish()
                })
                .unwrap();
            // So many that all is moved into the columns.
            let others = many(first..first + 1100, "other");
            store.record(&others).unwrap();
            let unused = store.database.read(Unused::find).unwrap();
            assert!(!unused.terms.is_empty());
            store
                .record(&[finding(category, category, 50_000)])
                .unwrap();
            if category == "two" {
                let others = many(first + 2000..first + 3100, "other");
                store.record(&others).unwrap();
            }
            store.forget(unused).unwrap();
            let count = |category: &str| {
                let query = crate::Query {
                    filter: format!("category=\"{category}\""),
                    ..crate::Query::default()
                };
                store.list(&query).unwrap().total_size
            };
            assert_eq!(count(category), 1);
        }
    }
}
