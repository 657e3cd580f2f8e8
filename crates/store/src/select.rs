//! What a filter selects: asks which values are meant, then reads the columns they are in, chunk by chunk.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::Error;
use crate::chunk::{self, Batch, Cache};
use crate::column::{Bits, Ids};
use crate::filter::{self, Condition, Element, Operator, Test};
use crate::layout::{
    COUNT_SUFFIX, ELEMENTS_MAX, GROUPED, HELD_AS_NUMBERS, column_number, has_column,
};
use crate::name::SourceName;
use crate::piece::Terms;
use crate::sql::Sql;

/// A filter, made ready for one snapshot of the database.
#[derive(Clone)]
pub(crate) struct Selection {
    /// Holds for what is selected.
    pub(crate) condition: Condition,
    /// Parent and filter, when what they select may be remembered.
    remembered_as: Option<Arc<str>>,
}

/// Longer filters are not remembered.
const REMEMBERED_BYTES_MAX: usize = 1024;

impl Selection {
    /// Everything.
    pub(crate) fn all() -> Self {
        Condition::And(Vec::new()).into()
    }

    /// Parses, checks and resolves. `parent` may be empty.
    pub(crate) fn new(
        db: &Connection,
        cache: &Cache,
        parent: &str,
        filter: &str,
    ) -> Result<Self, Error> {
        let condition = resolve(db, compile(parent, filter)?, Values::Remembered(cache))?;
        let is_remembered = parent.len() + filter.len() < REMEMBERED_BYTES_MAX;
        Ok(Self {
            condition,
            remembered_as: is_remembered.then(|| format!("{parent}\n{filter}").into()),
        })
    }

    /// The same with one more condition.
    pub(crate) fn and(self, condition: Condition) -> Self {
        Condition::And(vec![condition, self.condition]).into()
    }

    /// The findings of a batch that are selected.
    pub(crate) fn of(&self, db: &Connection, batch: &Batch) -> Result<Bits, Error> {
        match &self.remembered_as {
            Some(filter) => batch.selected(filter, || {
                select(db, batch, &self.condition, &batch.members)
            }),
            None => select(db, batch, &self.condition, &batch.members),
        }
    }
}

impl From<Condition> for Selection {
    fn from(condition: Condition) -> Self {
        Self {
            condition,
            remembered_as: None,
        }
    }
}

/// One finding as it is now in the database, to be held against filters. They look at its own values alone, so that it is
/// quick however many others there are.
pub(crate) struct One {
    batch: Batch,
    values: Vec<u32>,
}

impl One {
    /// `None` when it is not there.
    pub(crate) fn load(db: &Connection, id: i64) -> Result<Option<Self>, Error> {
        let Some(batch) = chunk::load_one(db, id)? else {
            return Ok(None);
        };
        let values = batch.all_terms(db)?;
        Ok(Some(Self { batch, values }))
    }

    pub(crate) fn matches(&self, db: &Connection, filter: &Condition) -> Result<bool, Error> {
        let filter = resolve(db, filter.clone(), Values::Among(&self.values))?;
        Ok(!select(db, &self.batch, &filter, &self.batch.members)?.is_empty())
    }
}

/// Whether a finding is there and matches.
pub(crate) fn matches(db: &Connection, filter: &Condition, id: i64) -> Result<bool, Error> {
    One::load(db, id)?.map_or(Ok(false), |one| one.matches(db, filter))
}

/// Parses and checks, for [`One::matches`]. `parent` may be empty.
pub(crate) fn compile(parent: &str, filter: &str) -> Result<Condition, Error> {
    let mut parts = vec![filter::compile(&filter::parse(filter)?)?];
    if !parent.is_empty() {
        parts.push(Condition::Parent(SourceName::parse(parent)?));
    }
    Ok(Condition::And(parts))
}

/// Those within `within` that fulfil the condition.
fn select(
    db: &Connection,
    batch: &Batch,
    condition: &Condition,
    within: &Bits,
) -> Result<Bits, Error> {
    if within.is_empty() {
        return Ok(Bits::EMPTY);
    }
    match condition {
        Condition::And(parts) => {
            let mut rest = *within;
            for part in parts {
                rest = select(db, batch, part, &rest)?;
            }
            Ok(rest)
        }
        Condition::Or(parts) => {
            let mut found = Bits::EMPTY;
            for part in parts {
                let rest = within.without(&found);
                found = found.or(&select(db, batch, part, &rest)?);
            }
            Ok(found)
        }
        Condition::Not(inner) => Ok(within.without(&select(db, batch, inner, within)?)),
        Condition::Enum { column, numbers } => with_value(db, batch, column, numbers, within),
        Condition::Ids { field, ids } => with_value(db, batch, field, ids, within),
        Condition::Any { field, except } => {
            let bytes = batch.terms(db, column_number(field))?;
            let terms = Terms::read(&bytes)?;
            Ok(terms.select(&other_than(&terms, *except)).and(within))
        }
        Condition::Number {
            column,
            operator,
            value,
        } => by_number(db, batch, (column, *operator, *value), within),
        Condition::Rows(ids) => {
            let mut found = Bits::EMPTY;
            for offset in ids.iter().filter_map(|id| batch.offset(*id)) {
                found.insert(offset);
            }
            Ok(found.and(within))
        }
        Condition::Within { field, inner } => by_element(db, batch, field, inner, within),
        // Resolved before.
        Condition::Term { .. }
        | Condition::Elements { .. }
        | Condition::Name(_)
        | Condition::Parent(_) => Ok(Bits::EMPTY),
    }
}

fn with_value(
    db: &Connection,
    batch: &Batch,
    field: &str,
    ids: &Ids,
    within: &Bits,
) -> Result<Bits, Error> {
    if ids.is_empty() {
        return Ok(Bits::EMPTY);
    }
    let bytes = batch.terms(db, column_number(field))?;
    let terms = Terms::read(&bytes)?;
    Ok(match terms.codes_of(ids) {
        Some(wanted) => terms.select(&wanted).and(within),
        None => Bits::EMPTY,
    })
}

/// All codes but that of one value.
fn other_than(terms: &Terms<'_>, except: Option<u32>) -> Vec<bool> {
    let values = terms.dictionary().map(|id| Some(id) != except);
    std::iter::once(false).chain(values).collect()
}

fn by_number(
    db: &Connection,
    batch: &Batch,
    (column, operator, value): (&str, Operator, i64),
    within: &Bits,
) -> Result<Bits, Error> {
    let passes = |number: i64| match operator {
        Operator::Less => number < value,
        Operator::LessOrEqual => number <= value,
        Operator::Greater => number > value,
        Operator::GreaterOrEqual => number >= value,
        Operator::Equal | Operator::Has => number == value,
        Operator::NotEqual => number != value,
    };
    if column == "event_time" && operator != Operator::NotEqual {
        let is_beyond = (batch.newest < value
            && matches!(
                operator,
                Operator::Greater | Operator::GreaterOrEqual | Operator::Equal
            ))
            || (batch.oldest > value
                && matches!(
                    operator,
                    Operator::Less | Operator::LessOrEqual | Operator::Equal
                ));
        if is_beyond {
            return Ok(Bits::EMPTY);
        }
        if operator != Operator::Equal && passes(batch.oldest) && passes(batch.newest) {
            return Ok(*within);
        }
    }
    let numbers = batch.numbers(db, column_number(column))?;
    let mut found = Bits::EMPTY;
    for offset in within.iter() {
        if numbers.get(offset).is_some_and(|number| passes(*number)) {
            found.insert(offset);
        }
    }
    Ok(found)
}

/// All elements that are told apart.
const TOLD_APART: u64 = u64::MAX >> (64 - ELEMENTS_MAX);

/// A condition on one element, by masks of elements.
fn by_element(
    db: &Connection,
    batch: &Batch,
    field: &str,
    inner: &Condition,
    within: &Bits,
) -> Result<Bits, Error> {
    let bytes = batch.terms(db, column_number(&format!("{field}{COUNT_SUFFIX}")))?;
    let counts = Terms::read(&bytes)?;
    let wanted: Vec<bool> = std::iter::once(false)
        .chain(counts.dictionary().map(|count| count > 0))
        .collect();
    let within = within.and(&counts.select(&wanted));
    let length = within.iter().last().map_or(0, |last| last + 1);
    let mut all = vec![0_u64; length];
    if denies(inner) {
        for (offset, all) in all.iter_mut().enumerate() {
            counts.each(offset, |code, _| {
                let count = counts.id(code).unwrap_or(0).min(ELEMENTS_MAX.into());
                *all = (1_u64 << count) - 1;
            });
        }
    } else {
        // Where nothing is denied, a finding without any element of the values is out, whatever elements it has.
        all.fill(TOLD_APART);
    }
    let masks = masks(db, batch, inner, &all)?;
    Ok(Bits::of_masks(&masks).and(&within))
}

/// Whether a condition can be fulfilled by what is not there.
fn denies(condition: &Condition) -> bool {
    match condition {
        Condition::And(parts) => parts.is_empty() || parts.iter().any(denies),
        Condition::Or(parts) => parts.iter().any(denies),
        Condition::Not(_) => true,
        _ => false,
    }
}

/// For each finding, which of its elements fulfil the condition. `all` holds those there are.
fn masks(
    db: &Connection,
    batch: &Batch,
    condition: &Condition,
    all: &[u64],
) -> Result<Vec<u64>, Error> {
    let mut masks = match condition {
        Condition::And(_) => all.to_vec(),
        _ => vec![0; all.len()],
    };
    let combine = |masks: &mut Vec<u64>, part: &[u64], with: fn(u64, u64) -> u64| {
        masks
            .iter_mut()
            .zip(part)
            .for_each(|(mask, part)| *mask = with(*mask, *part));
    };
    match condition {
        Condition::And(parts) => {
            // What is left over by one part is all that the next one has to look at.
            for part in parts {
                masks = self::masks(db, batch, part, &masks)?;
                if masks.iter().all(|mask| *mask == 0) {
                    break;
                }
            }
        }
        Condition::Or(parts) => {
            for part in parts {
                let part = self::masks(db, batch, part, all)?;
                combine(&mut masks, &part, |a, b| a | b);
            }
        }
        Condition::Not(inner) => {
            masks = self::masks(db, batch, inner, all)?;
            combine(&mut masks, all, |mask, all| all & !mask);
        }
        Condition::Ids { field, ids } => {
            let bytes = batch.terms(db, column_number(field))?;
            let terms = Terms::read(&bytes)?;
            if let Some(wanted) = terms.codes_of(ids) {
                terms.mask(&wanted, all, &mut masks);
            }
        }
        Condition::Any { field, except } => {
            let bytes = batch.terms(db, column_number(field))?;
            let terms = Terms::read(&bytes)?;
            terms.mask(&other_than(&terms, *except), all, &mut masks);
        }
        // Elements have terms only.
        _ => {}
    }
    // The value that stands for none is in no element.
    combine(&mut masks, all, |mask, all| mask & all);
    Ok(masks)
}

/// Runs a statement and collects its rows.
pub(crate) fn collect<T>(
    db: &Connection,
    sql: &Sql,
    each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Error> {
    let mut statement = db.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(&sql.parameters), each)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The parents a query's parent stands for. Findings are kept under their organization; a project or folder shows
/// those whose resource is in it.
fn scope(db: &Connection, wanted: SourceName) -> Result<Condition, Error> {
    let mut same: Vec<u32> = Vec::new();
    let mut above: Vec<u32> = Vec::new();
    let mut statement =
        db.prepare_cached("SELECT id, value FROM term WHERE field = 'parent' ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(name) = SourceName::parse(&row.get::<_, String>(1)?) else {
            continue;
        };
        let matches = |wanted: &str, actual: &str| wanted == "-" || wanted == actual;
        if !matches(&wanted.source, &name.source) || !matches(&wanted.location, &name.location) {
            continue;
        }
        if wanted.scope == name.scope {
            same.push(row.get(0)?);
        } else if !wanted.scope.starts_with("organizations/") {
            above.push(row.get(0)?);
        }
    }
    let within = |ids: Vec<u32>| Condition::Ids {
        field: "parent".to_owned(),
        ids: ids.into(),
    };
    if above.is_empty() {
        return Ok(within(same));
    }
    let in_scope = Condition::And(vec![
        Condition::Term {
            field: "scope".to_owned(),
            test: Test::Equal(wanted.scope),
        },
        within(above),
    ]);
    if same.is_empty() {
        return Ok(in_scope);
    }
    Ok(Condition::Or(vec![within(same), in_scope]))
}

/// The values among which those that are meant are looked for.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    /// All there are. What was asked lately is remembered.
    Remembered(&'a Cache),
    /// These, when it is about one finding.
    Among(&'a [u32]),
}

/// Puts the ids that are meant in place of tests and names, and what is quick to test before what is not.
pub(crate) fn resolve(
    db: &Connection,
    condition: Condition,
    values: Values<'_>,
) -> Result<Condition, Error> {
    let all = |parts: Vec<Condition>| -> Result<Vec<_>, Error> {
        let mut parts = parts
            .into_iter()
            .map(|part| resolve(db, part, values))
            .collect::<Result<Vec<Condition>, Error>>()?;
        parts.sort_by_key(cost);
        Ok(parts)
    };
    let boxed = |inner: Condition| resolve(db, inner, values).map(Box::new);
    Ok(match condition {
        Condition::And(parts) => Condition::And(all(parts)?),
        Condition::Or(parts) => Condition::Or(all(parts)?),
        Condition::Not(inner) => Condition::Not(boxed(*inner)?),
        Condition::Within { field, inner } => Condition::Within {
            field,
            inner: boxed(*inner)?,
        },
        Condition::Parent(parent) => resolve(db, scope(db, parent)?, values)?,
        Condition::Term {
            field,
            test: Test::Present,
        } if has_column(&field) => {
            let none = GROUPED.contains(&field.as_str());
            let except = if none { term_id(db, &field, "")? } else { None };
            Condition::Any { field, except }
        }
        Condition::Term { field, test } => {
            let by_index = matches!(
                test,
                Test::Equal(_) | Test::Number { .. } | Test::Between(..)
            );
            let mut ids = meant(db, values, &field, by_index, &|sql| sql.term(&field, &test))?;
            if HELD_AS_NUMBERS.contains(&field.as_str()) {
                let path = Vec::new();
                ids = ids.and_numbers(Element::Member { path, test });
            }
            Condition::Ids { field, ids }
        }
        Condition::Elements { field, inner } => {
            let mut ids = meant(db, values, &field, false, &|sql| {
                sql.elements(&field, &inner)
            })?;
            if HELD_AS_NUMBERS.contains(&field.as_str()) {
                ids = ids.and_numbers(inner);
            }
            Condition::Ids { field, ids }
        }
        Condition::Name(name) => Condition::Rows(
            crate::resolve::find(db, &name)?
                .map(|(id, _)| id)
                .into_iter()
                .collect(),
        ),
        other => other,
    })
}

/// What is meant in a field of fewer values is asked anew each time, and in one of more when more than so many came, of any
/// field, since it was asked: else it is asked of those that came.
const ASKED_ANEW_MAX: i64 = 20_000;

/// The values of a field that pass a test, which an index may answer.
fn meant(
    db: &Connection,
    values: Values<'_>,
    field: &str,
    by_index: bool,
    test: &dyn Fn(&mut Sql),
) -> Result<Ids, Error> {
    let ask = |mut sql: Sql| {
        test(&mut sql);
        collect(db, &sql, |row| row.get::<_, u32>(0))
    };
    let mut sql = Sql::default();
    sql.push("SELECT t.id FROM term t WHERE ");
    let cache = match values {
        Values::Remembered(_) if by_index => return Ok(ask(sql)?.into()),
        Values::Remembered(cache) => cache,
        Values::Among(ids) => {
            sql.push("t.id IN (SELECT value FROM json_each(")
                .bind(serde_json::to_string(ids)?);
            sql.push(")) AND ");
            return Ok(ask(sql)?.into());
        }
    };
    let mut question = Sql::default();
    test(&mut question);
    let question = format!("{} {:?}", question.text, question.parameters);
    let newest: i64 = db
        .prepare_cached("SELECT coalesce(max(id), 0) FROM term")?
        .query_row([], |row| row.get(0))?;
    // The number of a value is never given to another one, so that what was meant before still is.
    let known = cache.meant(&question);
    let ids = match known.filter(|(last, _)| newest - last <= ASKED_ANEW_MAX) {
        // A newer snapshot was asked.
        Some((last, ids)) if last >= newest => return Ok(ids.into()),
        Some((last, mut ids)) => {
            let mut sql = Sql::default();
            // By number.
            sql.push("SELECT t.id FROM term t NOT INDEXED WHERE t.id > ")
                .bind(last);
            sql.push(" AND ");
            ids.extend(ask(sql)?);
            ids
        }
        None => {
            let ids = ask(sql)?;
            let is_large = db
                .prepare_cached("SELECT 1 FROM term WHERE field = $1 LIMIT 1 OFFSET $2")?
                .exists(params![field, ASKED_ANEW_MAX])?;
            if !is_large {
                return Ok(ids.into());
            }
            ids
        }
    };
    cache.remember(question, newest, &ids);
    Ok(ids.into())
}

/// The id of a value.
pub(crate) fn term_id(db: &Connection, field: &str, value: &str) -> Result<Option<u32>, Error> {
    Ok(db
        .prepare_cached("SELECT id FROM term WHERE field = $1 AND value = $2")?
        .query_row([field, value], |row| row.get(0))
        .optional()?)
}

/// What is more, costs more to test.
fn cost(condition: &Condition) -> u8 {
    match condition {
        Condition::Rows(_) | Condition::Name(_) => 0,
        // Whole chunks lie beyond a bound in time.
        Condition::Number { .. } => 1,
        Condition::Ids { .. }
        | Condition::Term { .. }
        | Condition::Elements { .. }
        | Condition::Parent(_) => 2,
        Condition::Enum { .. } | Condition::Any { .. } => 3,
        Condition::Within { .. } => 5,
        Condition::Not(inner) => cost(inner).max(4),
        Condition::And(parts) | Condition::Or(parts) => {
            parts.iter().map(cost).max().unwrap_or(0).max(4)
        }
    }
}
