//! Writing one finding: row, document, postings and counts, always together.

use std::collections::{BTreeSet, HashMap};
use std::sync::MutexGuard;

use model::Timestamp;
use model::finding::FindingResult;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::database::{Database, TermIds};
use crate::name::FindingName;
use crate::terms::{self, FACETS, GROUPED, Term};
use crate::{Error, ns};

/// The term that every finding has.
pub(crate) const ALL: i64 = 0;

/// Length of the counted spans in nanoseconds, by number. Span 0 is all time. Hours are counted for all findings and for
/// categories: for resources and containers, which are many, each finding would be its own hour.
pub(crate) const SPANS: [i64; 3] = [i64::MAX, DAY, HOUR];
pub(crate) const HOUR: i64 = 3_600_000_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A finding as stored, with what is kept beside the document.
pub(crate) struct Stored {
    pub(crate) id: i64,
    pub(crate) result: FindingResult,
    pub(crate) occurrences: i64,
    /// A user decided the state.
    pub(crate) state_by_user: bool,
}

impl Stored {
    /// The same again, to become the next version.
    pub(crate) fn next(&self) -> Self {
        Self {
            id: self.id,
            result: self.result.clone(),
            occurrences: self.occurrences,
            state_by_user: self.state_by_user,
        }
    }
}

/// Writes findings of one transaction and, at [`Index::finish`], the counts that they change.
pub(crate) struct Index<'a> {
    pub(crate) db: &'a Transaction<'a>,
    terms: MutexGuard<'a, TermIds>,
    changes: HashMap<Cell, i64>,
}

/// Key of a row of `tally`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Cell {
    term: i64,
    span: usize,
    start: i64,
    parent: i64,
    severity: i64,
    state: i64,
    mute: i64,
    class: i64,
}

/// What the index holds of one version of a finding.
struct Entry {
    parent: i64,
    category: i64,
    resource: i64,
    event_time: i64,
    terms: BTreeSet<i64>,
    /// Number of the field in [`GROUPED`], and term.
    grouped: BTreeSet<(i64, i64)>,
    facets: BTreeSet<i64>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(db: &'a Transaction<'a>, database: &'a Database) -> Self {
        Self {
            db,
            terms: database.term_ids(),
            changes: HashMap::new(),
        }
    }

    /// The stored finding of this name.
    pub(crate) fn load(&self, name: &FindingName) -> Result<Option<Stored>, Error> {
        let id: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT f.id FROM finding f JOIN term t ON t.id = f.parent_id \
                 WHERE f.key = $1 AND t.field = 'parent' AND t.value = $2",
            )?
            .query_row(params![name.key, name.parent.to_string()], |row| row.get(0))
            .optional()?;
        id.map(|id| self.load_id(id)).transpose()
    }

    /// The stored finding with this row id, which is there.
    pub(crate) fn load_id(&self, id: i64) -> Result<Stored, Error> {
        let (occurrences, state_by_user, body): (_, _, String) = self
            .db
            .prepare_cached(
                "SELECT f.occurrences, f.state_by_user, d.body FROM finding f \
                 JOIN document d ON d.finding_id = f.id WHERE f.id = $1",
            )?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(Stored {
            id,
            result: serde_json::from_str(&body)?,
            occurrences,
            state_by_user,
        })
    }

    /// Adds a finding that is not there yet. Returns its row id.
    pub(crate) fn insert(&mut self, key: &str, result: &FindingResult) -> Result<i64, Error> {
        let entry = self.entry(result)?;
        let finding = &result.finding;
        let id = self
            .db
            .prepare_cached(
                "INSERT INTO finding (key, parent_id, category_id, resource_id, state, severity, mute, class, \
                 event_time, create_time, occurrences) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1) RETURNING id",
            )?
            .query_row(
                params![
                    key,
                    entry.parent,
                    entry.category,
                    entry.resource,
                    finding.state as i64,
                    finding.severity as i64,
                    finding.mute as i64,
                    finding.finding_class as i64,
                    entry.event_time,
                    ns(finding.create_time.unwrap_or_default()),
                ],
                |row| row.get(0),
            )?;
        self.db
            .prepare_cached("INSERT INTO document (finding_id, body) VALUES ($1, $2)")?
            .execute(params![id, serde_json::to_string(result)?])?;
        self.post(id, entry.event_time, &entry.terms)?;
        self.group(id, &entry.grouped)?;
        self.count(result, &entry, 1);
        Ok(id)
    }

    /// Replaces a stored finding by its next version.
    pub(crate) fn update(&mut self, old: &Stored, new: &Stored) -> Result<(), Error> {
        let before = self.entry(&old.result)?;
        let after = self.entry(&new.result)?;
        let finding = &new.result.finding;
        self.db
            .prepare_cached(
                "UPDATE finding SET state = $1, severity = $2, mute = $3, class = $4, event_time = $5, \
                 occurrences = $6, state_by_user = $7 WHERE id = $8",
            )?
            .execute(params![
                finding.state as i64,
                finding.severity as i64,
                finding.mute as i64,
                finding.finding_class as i64,
                after.event_time,
                new.occurrences,
                new.state_by_user,
                old.id,
            ])?;
        self.db
            .prepare_cached("UPDATE document SET body = $1 WHERE finding_id = $2")?
            .execute(params![serde_json::to_string(&new.result)?, old.id])?;
        if before.event_time == after.event_time {
            self.unpost(
                old.id,
                before.event_time,
                before.terms.difference(&after.terms),
            )?;
            self.post(
                old.id,
                after.event_time,
                after.terms.difference(&before.terms),
            )?;
        } else {
            self.unpost(old.id, before.event_time, &before.terms)?;
            self.post(old.id, after.event_time, &after.terms)?;
        }
        if before.grouped != after.grouped {
            self.db
                .prepare_cached("DELETE FROM grouping WHERE finding_id = $1")?
                .execute(params![old.id])?;
            self.group(old.id, &after.grouped)?;
        }
        self.count(&old.result, &before, -1);
        self.count(&new.result, &after, 1);
        Ok(())
    }

    /// Takes a finding out of everything.
    pub(crate) fn delete(&mut self, old: &Stored) -> Result<(), Error> {
        let entry = self.entry(&old.result)?;
        self.unpost(old.id, entry.event_time, &entry.terms)?;
        self.count(&old.result, &entry, -1);
        self.db
            .prepare_cached("DELETE FROM grouping WHERE finding_id = $1")?
            .execute(params![old.id])?;
        self.db
            .prepare_cached("DELETE FROM finding WHERE id = $1")?
            .execute(params![old.id])?;
        Ok(())
    }

    /// Writes the changed counts. Without it the counts are wrong: call it before the commit.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let mut changes: Vec<(Cell, i64)> =
            self.changes.into_iter().filter(|(_, n)| *n != 0).collect();
        // In key order neighbors share a page.
        changes.sort_unstable();
        let mut statement = self.db.prepare_cached(
            "INSERT INTO tally (term_id, span, start, parent_id, severity, state, mute, class, n) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (term_id, span, start, parent_id, severity, state, mute, class) \
             DO UPDATE SET n = tally.n + excluded.n",
        )?;
        for (cell, n) in changes {
            statement.execute(params![
                cell.term,
                i64::try_from(cell.span).unwrap_or_default(),
                cell.start,
                cell.parent,
                cell.severity,
                cell.state,
                cell.mute,
                cell.class,
                n
            ])?;
        }
        Ok(())
    }

    fn entry(&mut self, result: &FindingResult) -> Result<Entry, Error> {
        let mut entry = Entry {
            parent: 0,
            category: 0,
            resource: 0,
            event_time: event_time(result),
            terms: BTreeSet::from([ALL]),
            grouped: BTreeSet::new(),
            facets: BTreeSet::from([ALL]),
        };
        for term in terms::of(result) {
            let grouped = GROUPED.iter().position(|field| *field == term.field);
            let id = self.term(term)?;
            entry.terms.insert(id);
            let Some(field) = grouped else {
                continue;
            };
            entry.grouped.insert((field as i64, id));
            if field < FACETS.len() {
                entry.facets.insert(id);
            }
            match GROUPED[field] {
                "parent" => entry.parent = id,
                "category" => entry.category = id,
                "resource_name" => entry.resource = id,
                _ => {}
            }
        }
        Ok(entry)
    }

    fn term(&mut self, term: Term) -> Result<i64, Error> {
        if let Some(id) = self.terms.get(&term) {
            return Ok(*id);
        }
        let id = self.stored_term(&term)?;
        self.terms.put(term, id);
        Ok(id)
    }

    fn stored_term(&self, term: &Term) -> Result<i64, Error> {
        let known = self
            .db
            .prepare_cached("SELECT id FROM term WHERE field = $1 AND value = $2")?
            .query_row(params![term.field, term.value], |row| row.get(0))
            .optional()?;
        if let Some(id) = known {
            return Ok(id);
        }
        Ok(self
            .db
            .prepare_cached(
                "INSERT INTO term (field, value, number) VALUES ($1, $2, $3) RETURNING id",
            )?
            .query_row(params![term.field, term.value, term.number()], |row| {
                row.get(0)
            })?)
    }

    fn post<'i>(
        &self,
        id: i64,
        event_time: i64,
        terms: impl IntoIterator<Item = &'i i64>,
    ) -> Result<(), Error> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO posting (term_id, event_time, finding_id) VALUES ($1, $2, $3)",
        )?;
        for term in terms {
            statement.execute(params![term, event_time, id])?;
        }
        Ok(())
    }

    fn group(&self, id: i64, terms: &BTreeSet<(i64, i64)>) -> Result<(), Error> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO grouping (finding_id, field, term_id) VALUES ($1, $2, $3)",
        )?;
        for (field, term) in terms {
            statement.execute(params![id, field, term])?;
        }
        Ok(())
    }

    fn unpost<'i>(
        &self,
        id: i64,
        event_time: i64,
        terms: impl IntoIterator<Item = &'i i64>,
    ) -> Result<(), Error> {
        let mut statement = self.db.prepare_cached(
            "DELETE FROM posting WHERE term_id = $1 AND event_time = $2 AND finding_id = $3",
        )?;
        for term in terms {
            statement.execute(params![term, event_time, id])?;
        }
        Ok(())
    }

    fn count(&mut self, result: &FindingResult, entry: &Entry, change: i64) {
        let finding = &result.finding;
        for &term in &entry.facets {
            let is_hourly = term == ALL || term == entry.category;
            let spans = if is_hourly { 3 } else { 2 };
            for (span, length) in SPANS.into_iter().enumerate().take(spans) {
                let cell = Cell {
                    term,
                    span,
                    start: entry.event_time / length * length,
                    parent: entry.parent,
                    severity: finding.severity as i64,
                    state: finding.state as i64,
                    mute: finding.mute as i64,
                    class: finding.finding_class as i64,
                };
                *self.changes.entry(cell).or_default() += change;
            }
        }
    }
}

/// When it happened; when recorded, for a finding that does not say.
fn event_time(result: &FindingResult) -> i64 {
    let finding = &result.finding;
    let time = finding.event_time.or(finding.create_time);
    ns(time.unwrap_or(Timestamp(0)))
}
