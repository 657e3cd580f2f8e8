//! Choosing how to find what a filter selects: asks the index for the terms meant, then starts from the rarest.

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::Error;
use crate::fields::{self, column_of_enum, column_of_term};
use crate::filter::{self, Condition, Operator};
use crate::index::ALL;
use crate::name::SourceName;
use crate::sql::Sql;

/// Terms of one condition that are put into the statement. With more, the statement looks them up itself.
const IDS_MAX: usize = 1000;

/// Findings of one term that are counted to know how rare it is. More are just "many".
const ESTIMATE_MAX: i64 = 32_768;

/// Findings that are sorted rather than walked in the order of an index.
const SMALL: i64 = 1000;

/// A filter, made ready for one snapshot of the database.
pub(crate) struct Selection {
    /// Top-level conditions; all must hold.
    pub(crate) parts: Vec<Condition>,
}

/// Where the search starts.
#[derive(Debug, PartialEq)]
pub(crate) struct Driver {
    /// The terms whose findings are looked at; one of them is [`ALL`] when no condition helps.
    terms: Vec<i64>,
    /// The part that the driver already fulfils.
    part: Option<usize>,
    /// About how many findings that is; at most [`ESTIMATE_MAX`] for each term.
    estimate: i64,
}

impl Driver {
    pub(crate) fn terms(&self) -> &[i64] {
        &self.terms
    }
}

/// Which way through time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    OldestFirst,
    NewestFirst,
}

/// A finding's place in time.
pub(crate) type Position = (i64, i64);

impl Selection {
    /// Parses, checks and resolves. `parent` may be empty.
    pub(crate) fn new(db: &Connection, parent: &str, filter: &str) -> Result<Self, Error> {
        let condition = filter::compile(&filter::parse(filter)?)?;
        let mut parts = Vec::new();
        flatten(resolve(db, scope(db, parent)?)?, &mut parts);
        flatten(resolve(db, condition)?, &mut parts);
        Ok(Self { parts })
    }

    /// The same with one more condition.
    pub(crate) fn and(&self, condition: Condition) -> Self {
        let mut parts = self.parts.clone();
        if let Condition::Ids { field, ids } = &condition
            && column_of_term(field).is_some()
        {
            // A finding has one term of this field: both conditions together are one, from which to start.
            for part in &mut parts {
                if let Condition::Ids {
                    field: known,
                    ids: before,
                } = part
                    && known == field
                {
                    before.retain(|id| ids.contains(id));
                    return Self { parts };
                }
            }
        }
        flatten(condition, &mut parts);
        Self { parts }
    }

    /// The part of it within a range of time that lies in its own. Two lower bounds would let the database start from the
    /// wrong one.
    pub(crate) fn during(&self, from: i64, to: i64) -> Self {
        let is_time = |part: &Condition| {
            matches!(
                part,
                Condition::Number {
                    column: "event_time",
                    ..
                }
            )
        };
        let bound = |operator, value| Condition::Number {
            column: "event_time",
            operator,
            value,
        };
        let mut parts: Vec<_> = self
            .parts
            .iter()
            .filter(|part| !is_time(part))
            .cloned()
            .collect();
        parts.push(bound(Operator::GreaterOrEqual, from));
        parts.push(bound(Operator::Less, to));
        Self { parts }
    }

    /// Picks the start for reading the first `wanted` findings in time order.
    pub(crate) fn driver(&self, db: &Connection, wanted: i64) -> Result<Driver, Error> {
        let mut best = Driver {
            terms: vec![ALL],
            part: None,
            estimate: i64::MAX,
        };
        let newest: i64 = db
            .prepare_cached("SELECT coalesce(max(id), 0) FROM finding")?
            .query_row([], |row| row.get(0))?;
        for (position, part) in self.parts.iter().enumerate() {
            let ids = match part {
                Condition::Ids { ids, .. } => ids.clone(),
                Condition::Enum { column, numbers } => enum_terms(db, column, numbers)?,
                _ => continue,
            };
            let estimate = estimate(db, &ids)?;
            // The findings of one term lie in time order. Those of several must be sorted, which pays only when they
            // are fewer than would be passed over on the way to the wanted ones.
            let is_sorted = ids.len() == 1;
            let pays = estimate.saturating_mul(estimate) <= newest.saturating_mul(wanted);
            if estimate < best.estimate && (is_sorted || pays) {
                best = Driver {
                    terms: ids,
                    part: Some(position),
                    estimate,
                };
            }
        }
        Ok(best)
    }

    /// Appends `FROM ... WHERE ...` that yields `p` (and `f`) for each finding selected.
    pub(crate) fn source(&self, sql: &mut Sql, driver: &Driver) {
        match driver.terms.as_slice() {
            [term] => {
                sql.push(" FROM posting p CROSS JOIN finding f WHERE f.id = p.finding_id AND p.term_id = ")
                    .bind(*term);
            }
            terms => {
                sql.push(
                    " FROM (SELECT DISTINCT event_time, finding_id FROM posting WHERE term_id IN ",
                )
                .bind_list(terms);
                sql.push(") p CROSS JOIN finding f WHERE f.id = p.finding_id");
            }
        }
        for (position, part) in self.parts.iter().enumerate() {
            if driver.part != Some(position) {
                sql.push(" AND ").condition(part, "f");
            }
        }
    }

    /// The places of the first `wanted` findings in time order, after `after`.
    pub(crate) fn in_time_order(
        &self,
        db: &Connection,
        direction: Direction,
        after: Option<Position>,
        wanted: i64,
    ) -> Result<Vec<Position>, Error> {
        let driver = self.driver(db, wanted)?;
        let mut sql = Sql::default();
        sql.push("SELECT p.event_time, p.finding_id");
        self.source(&mut sql, &driver);
        let (beyond, order) = match direction {
            Direction::OldestFirst => (">", "ASC"),
            Direction::NewestFirst => ("<", "DESC"),
        };
        if let Some((time, id)) = after {
            sql.push(&format!(" AND (p.event_time, p.finding_id) {beyond} ("));
            sql.bind(time).push(", ").bind(id).push(")");
        }
        sql.push(&format!(
            " ORDER BY p.event_time {order}, p.finding_id {order} LIMIT "
        ))
        .bind(wanted);
        collect(db, &sql, |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// How many findings are selected, by looking at each.
    pub(crate) fn count_rows(&self, db: &Connection) -> Result<i64, Error> {
        let driver = self.driver(db, i64::MAX)?;
        let mut sql = Sql::default();
        sql.push("SELECT count(*)");
        self.source(&mut sql, &driver);
        let counts = collect(db, &sql, |row| row.get(0))?;
        Ok(counts.first().copied().unwrap_or_default())
    }

    /// Is the finding with this row id selected.
    pub(crate) fn matches(&self, db: &Connection, id: i64) -> Result<bool, Error> {
        let mut sql = Sql::default();
        sql.push("SELECT count(*) FROM finding f CROSS JOIN posting p WHERE f.id = ")
            .bind(id);
        sql.push(" AND p.term_id = 0 AND p.event_time = f.event_time AND p.finding_id = f.id");
        for part in &self.parts {
            sql.push(" AND ").condition(part, "f");
        }
        let counts = collect(db, &sql, |row| row.get::<_, i64>(0))?;
        Ok(counts.first().is_some_and(|count| *count > 0))
    }

    /// Few enough that looking at each is quick.
    pub(crate) fn is_small(&self, db: &Connection) -> Result<bool, Error> {
        Ok(self.driver(db, i64::MAX)?.estimate <= SMALL)
    }
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

/// The terms of names of an enumeration.
pub(crate) fn enum_terms(
    db: &Connection,
    column: &str,
    numbers: &[i64],
) -> Result<Vec<i64>, Error> {
    let mut ids = Vec::new();
    for (field, names) in
        fields::enumerations().filter(|(field, _)| column_of_enum(field) == Some(column))
    {
        let mut statement =
            db.prepare_cached("SELECT id FROM term WHERE field = $1 AND value = $2")?;
        for number in numbers {
            let name = usize::try_from(*number)
                .ok()
                .and_then(|number| names.get(number));
            let id: Option<i64> = statement
                .query_row(params![field, name], |row| row.get(0))
                .optional()?;
            ids.extend(id);
        }
    }
    Ok(ids)
}

fn estimate(db: &Connection, ids: &[i64]) -> Result<i64, Error> {
    let mut statement = db.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM posting WHERE term_id = $1 LIMIT $2)",
    )?;
    let mut total = 0_i64;
    for id in ids {
        total += statement.query_row([*id, ESTIMATE_MAX], |row| row.get::<_, i64>(0))?;
        if total >= ESTIMATE_MAX {
            break;
        }
    }
    Ok(total)
}

/// The parents a query's parent stands for. Findings are kept under their organization; a project or folder shows
/// those whose resource is in it.
fn scope(db: &Connection, parent: &str) -> Result<Condition, Error> {
    if parent.is_empty() {
        return Ok(Condition::And(Vec::new()));
    }
    let wanted = SourceName::parse(parent)?;
    let mut same = Vec::new();
    let mut above = Vec::new();
    let mut statement = db.prepare_cached("SELECT id, value FROM term WHERE field = 'parent'")?;
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
    let within = |ids| Condition::Ids {
        field: "parent".to_owned(),
        ids,
    };
    if above.is_empty() {
        return Ok(within(same));
    }
    let in_scope = Condition::And(vec![
        Condition::Term {
            field: "scope".to_owned(),
            test: filter::Test::Equal(wanted.scope),
        },
        within(above),
    ]);
    if same.is_empty() {
        return Ok(in_scope);
    }
    Ok(Condition::Or(vec![within(same), in_scope]))
}

/// Puts the ids of the terms that are meant in place of the tests, where they are few.
pub(crate) fn resolve(db: &Connection, condition: Condition) -> Result<Condition, Error> {
    Ok(match condition {
        Condition::And(parts) => {
            let mut flat = Vec::new();
            for part in parts {
                flatten(resolve(db, part)?, &mut flat);
            }
            Condition::And(flat)
        }
        Condition::Or(parts) => {
            let mut merged: Vec<Condition> = Vec::new();
            for part in parts {
                merge_alternative(resolve(db, part)?, &mut merged);
            }
            match merged.pop() {
                Some(only) if merged.is_empty() => only,
                Some(last) => {
                    merged.push(last);
                    Condition::Or(merged)
                }
                None => Condition::Or(merged),
            }
        }
        Condition::Not(inner) => Condition::Not(Box::new(resolve(db, *inner)?)),
        Condition::Term { field, test } => {
            let mut sql = Sql::default();
            sql.push("SELECT t.id FROM term t WHERE ");
            sql.term(&field, &test);
            sql.push(" LIMIT ")
                .bind(i64::try_from(IDS_MAX + 1).unwrap_or(i64::MAX));
            let ids: Vec<i64> = collect(db, &sql, |row| row.get(0))?;
            if ids.len() <= IDS_MAX {
                Condition::Ids { field, ids }
            } else {
                Condition::Term { field, test }
            }
        }
        other => other,
    })
}

fn flatten(condition: Condition, parts: &mut Vec<Condition>) {
    match condition {
        Condition::And(inner) => {
            for part in inner {
                flatten(part, parts);
            }
        }
        other => parts.push(other),
    }
}

/// `category = a OR category = b` becomes one set, which the index can start from.
fn merge_alternative(alternative: Condition, merged: &mut Vec<Condition>) {
    for known in merged.iter_mut() {
        match (known, &alternative) {
            (
                Condition::Ids { field, ids },
                Condition::Ids {
                    field: other,
                    ids: more,
                },
            ) if field == other => {
                ids.extend(
                    more.iter()
                        .filter(|id| !ids.contains(id))
                        .copied()
                        .collect::<Vec<_>>(),
                );
                return;
            }
            (
                Condition::Enum { column, numbers },
                Condition::Enum {
                    column: other,
                    numbers: more,
                },
            ) if column == other => {
                numbers.extend(
                    more.iter()
                        .filter(|number| !numbers.contains(number))
                        .copied()
                        .collect::<Vec<_>>(),
                );
                return;
            }
            _ => {}
        }
    }
    merged.push(alternative);
}

/// The half-open range of time that these conditions leave.
pub(crate) fn time_range(parts: &[&Condition]) -> (i64, i64) {
    let (mut from, mut to) = (0, i64::MAX);
    for part in parts {
        if let Condition::Number {
            column: "event_time",
            operator,
            value,
        } = part
        {
            let next = value.saturating_add(1);
            match operator {
                Operator::Greater => from = from.max(next),
                Operator::GreaterOrEqual => from = from.max(*value),
                Operator::Less => to = to.min(*value),
                Operator::LessOrEqual => to = to.min(next),
                Operator::Equal => {
                    from = from.max(*value);
                    to = to.min(next);
                }
                Operator::NotEqual | Operator::Has => {}
            }
        }
    }
    (from, to)
}
