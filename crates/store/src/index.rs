//! Writing one finding: row, document and the values that columns hold of it, always together.

use std::sync::MutexGuard;

use model::Timestamp;
use model::finding::{Finding, FindingResult, Severity};
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use crate::column::Entry;
use crate::database::{Database, TermIds};
use crate::layout::{COUNT_SUFFIX, ELEMENTS, ELEMENTS_MAX, IS_NUMBER, column_number};
use crate::mute::{self, Rule};
use crate::name::FindingName;
use crate::notify::{self, Sink};
use crate::record::{FIRST_SEEN, NOT_INDEXED};
use crate::terms::{self, Term};
use crate::{Error, chunk, document, ns, timestamp};

/// A finding as stored, with what is kept beside the document.
pub(crate) struct Stored {
    pub(crate) id: i64,
    pub(crate) result: FindingResult,
    pub(crate) occurrences: i64,
    /// When a user decided the state.
    pub(crate) state_by_user: Option<Timestamp>,
    /// What the detector said the severity is, where a user decided otherwise.
    pub(crate) detected_severity: Option<Severity>,
}

impl Stored {
    /// The same again, to become the next version.
    pub(crate) fn next(&self) -> Self {
        Self {
            id: self.id,
            result: self.result.clone(),
            occurrences: self.occurrences,
            state_by_user: self.state_by_user,
            detected_severity: self.detected_severity,
        }
    }
}

/// Writes findings of one transaction.
pub(crate) struct Index<'a> {
    pub(crate) db: &'a Transaction<'a>,
    terms: MutexGuard<'a, TermIds>,
    /// What mutes them.
    pub(crate) rules: Vec<Rule>,
    /// What is told of them.
    pub(crate) sinks: Vec<Sink>,
}

/// What is kept of one version of a finding beside its document.
struct Row {
    parent: i64,
    category: i64,
    resource: i64,
    entry: Entry,
}

impl<'a> Index<'a> {
    pub(crate) fn new(db: &'a Transaction<'a>, database: &'a Database) -> Result<Self, Error> {
        Self::with(db, database.term_ids())
    }

    pub(crate) fn with(
        db: &'a Transaction<'a>,
        terms: MutexGuard<'a, TermIds>,
    ) -> Result<Self, Error> {
        Ok(Self {
            db,
            terms,
            rules: mute::rules(db)?,
            sinks: notify::sinks(db)?,
        })
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
        self.find(id)?.ok_or(Error::Damaged)
    }

    /// The stored finding with this row id.
    pub(crate) fn find(&self, id: i64) -> Result<Option<Stored>, Error> {
        let mut statement = self.db.prepare_cached(
            "SELECT f.occurrences, f.state_by_user, f.detected_severity, d.body FROM finding f \
             JOIN document d ON d.finding_id = f.id WHERE f.id = $1",
        )?;
        let mut rows = statement.query([id])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let state_by_user: i64 = row.get(1)?;
        let detected: Option<i64> = row.get(2)?;
        Ok(Some(Stored {
            id,
            result: serde_json::from_str(&document::decode(row, 3)?)?,
            occurrences: row.get(0)?,
            // 0 for nobody; 1 where the time was not kept yet.
            state_by_user: (state_by_user != 0).then(|| timestamp(state_by_user)),
            detected_severity: detected.and_then(severity),
        }))
    }

    /// Adds a finding that is not there yet, and notes in it what is not indexed. Returns its row id.
    pub(crate) fn insert(&mut self, key: &str, result: &mut FindingResult) -> Result<i64, Error> {
        let row = self.row(result, 1)?;
        let [event_time, create_time, ..] = row.entry.numbers;
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
                    row.parent,
                    row.category,
                    row.resource,
                    finding.state as i64,
                    finding.severity as i64,
                    finding.mute as i64,
                    finding.finding_class as i64,
                    event_time,
                    create_time,
                ],
                |row| row.get(0),
            )?;
        self.db
            .prepare_cached("INSERT INTO document (finding_id, body) VALUES ($1, $2)")?
            .execute(params![
                id,
                document::encode(serde_json::to_string(result)?)
            ])?;
        self.put(id, Some(&row.entry))?;
        Ok(id)
    }

    /// Replaces a stored finding by its next version, and notes in it what is not indexed.
    pub(crate) fn update(&mut self, new: &mut Stored) -> Result<(), Error> {
        let row = self.row(&mut new.result, new.occurrences)?;
        let finding = &new.result.finding;
        self.db
            .prepare_cached(
                "UPDATE finding SET state = $1, severity = $2, mute = $3, class = $4, event_time = $5, \
                 occurrences = $6, state_by_user = $7, detected_severity = $8 WHERE id = $9",
            )?
            .execute(params![
                finding.state as i64,
                finding.severity as i64,
                finding.mute as i64,
                finding.finding_class as i64,
                row.entry.numbers[0],
                new.occurrences,
                new.state_by_user.map_or(0, ns),
                new.detected_severity.map(|severity| severity as i64),
                new.id,
            ])?;
        self.write_document(new)?;
        self.put(new.id, Some(&row.entry))
    }

    fn write_document(&self, stored: &Stored) -> Result<(), Error> {
        self.db
            .prepare_cached("UPDATE document SET body = $1 WHERE finding_id = $2")?
            .execute(params![
                document::encode(serde_json::to_string(&stored.result)?),
                stored.id
            ])?;
        Ok(())
    }

    /// Takes a finding out of everything.
    pub(crate) fn delete(&mut self, id: i64) -> Result<(), Error> {
        self.db
            .prepare_cached("DELETE FROM finding WHERE id = $1")?
            .execute(params![id])?;
        self.put(id, None)
    }

    /// Prepares the columns of a finding whose row and document are there.
    pub(crate) fn refresh(&mut self, mut stored: Stored) -> Result<(), Error> {
        let noted = |stored: &Stored| {
            stored
                .result
                .finding
                .source_properties
                .get(NOT_INDEXED)
                .cloned()
        };
        let before = noted(&stored);
        let row = self.row(&mut stored.result, stored.occurrences)?;
        if noted(&stored) != before {
            self.write_document(&stored)?;
        }
        self.put(stored.id, Some(&row.entry))
    }

    /// Keeps the columns in order: call it before the commit.
    pub(crate) fn finish(self) -> Result<(), Error> {
        chunk::fold_if_many(self.db)
    }

    fn put(&self, id: i64, entry: Option<&Entry>) -> Result<(), Error> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO fresh (finding_id, body) VALUES ($1, $2)")?
            .execute(params![id, entry.map(Entry::to_bytes)])?;
        Ok(())
    }

    fn row(&mut self, result: &mut FindingResult, occurrences: i64) -> Result<Row, Error> {
        let indexed = terms::of(result);
        let properties = &mut result.finding.source_properties;
        match indexed.cut {
            0 => properties.remove(NOT_INDEXED),
            cut => properties.insert(NOT_INDEXED.to_owned(), cut.into()),
        };
        let finding = &result.finding;
        let mut row = Row {
            parent: 0,
            category: 0,
            resource: 0,
            entry: Entry {
                numbers: [
                    event_time(result),
                    ns(finding.create_time.unwrap_or_default()),
                    occurrences,
                    first_seen(finding),
                    ns(finding.mute_update_time.unwrap_or_default()),
                ],
                values: Vec::with_capacity(256),
            },
        };
        let values = &mut row.entry.values;
        for (column, number) in [
            ("state", finding.state as u32),
            ("severity", finding.severity as u32),
            ("mute", finding.mute as u32),
            ("class", finding.finding_class as u32),
        ] {
            values.push((column_number(column), 0, number));
        }
        for (field, count) in ELEMENTS.iter().zip(terms::element_counts(finding)) {
            // More than are told apart is enough to know.
            let count = count.min(usize::from(ELEMENTS_MAX) + 1) as u32;
            if count > 0 {
                values.push((column_number(&format!("{field}{COUNT_SUFFIX}")), 0, count));
            }
        }
        for (term, elements) in indexed.terms {
            let column = column_number(&term.field);
            let slot = match term.field.as_str() {
                "parent" => Some(&mut row.parent),
                "category" => Some(&mut row.category),
                "resource_name" => Some(&mut row.resource),
                _ => None,
            };
            let id = match term.held_as() {
                Some(number) => number,
                None => self.term(&term)?,
            };
            if let Some(slot) = slot {
                *slot = id.into();
            }
            let elements = elements.iter();
            row.entry
                .values
                .extend(elements.map(|element| (column, element, id)));
        }
        row.entry.values.sort_unstable();
        Ok(row)
    }

    fn term(&mut self, term: &Term) -> Result<u32, Error> {
        let Self { db, terms, .. } = self;
        terms.get(term, || {
            // SQLite gives the next number after the largest; two billion values would be half a petabyte.
            u32::try_from(stored_term(db, term)?)
                .ok()
                .filter(|id| *id < IS_NUMBER)
                .ok_or(Error::Damaged)
        })
    }
}

fn stored_term(db: &Transaction<'_>, term: &Term) -> Result<i64, Error> {
    let known = db
        .prepare_cached("SELECT id FROM term WHERE field = $1 AND value = $2")?
        .query_row(params![term.field, term.value], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    Ok(db
        .prepare_cached("INSERT INTO term (field, value, number) VALUES ($1, $2, $3) RETURNING id")?
        .query_row(params![term.field, term.value, term.number()], |row| {
            row.get(0)
        })?)
}

/// The severity with this number.
fn severity(number: i64) -> Option<Severity> {
    [
        Severity::SeverityUnspecified,
        Severity::Critical,
        Severity::High,
        Severity::Medium,
        Severity::Low,
    ]
    .into_iter()
    .find(|severity| *severity as i64 == number)
}

/// When the fact was seen first; 0 for a finding that does not say.
fn first_seen(finding: &Finding) -> i64 {
    let text = finding.source_properties.get(FIRST_SEEN);
    let time = text.and_then(Value::as_str).and_then(Timestamp::parse);
    ns(time.unwrap_or_default())
}

/// When it happened; when recorded, for a finding that does not say.
fn event_time(result: &FindingResult) -> i64 {
    let finding = &result.finding;
    let time = finding.event_time.or(finding.create_time);
    ns(time.unwrap_or(Timestamp(0)))
}
