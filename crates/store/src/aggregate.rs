//! Counting what is selected: totals, groups, histograms.

use std::collections::BTreeMap;

use model::Timestamp;
use rusqlite::Connection;

use crate::fields::{column_of_enum, column_of_term, enumerations};
use crate::filter::{Condition, Operator, field_path};
use crate::index::SPANS;
use crate::page::Token;
use crate::query::page_size;
use crate::select::{Selection, collect, time_range};
use crate::sql::Sql;
use crate::tally::{Countable, Piece, pieces};
use crate::terms::{FACETS, GROUPED, SINGLE, grouped_number};
use crate::{Error, Store, timestamp};

/// Fields in one grouping.
const GROUP_FIELDS_MAX: usize = 6;

/// Bars of one histogram.
pub const BUCKETS_MAX: u32 = 500;

/// What to group.
#[derive(Clone, Debug, Default)]
pub struct GroupQuery {
    /// As in [`crate::Query`].
    pub parent: String,
    /// As in [`crate::Query`].
    pub filter: String,
    /// Fields separated by commas, e.g. `category,state`.
    pub group_by: String,
    /// As in [`crate::Query`].
    pub page_size: u32,
    /// Empty for the first page.
    pub page_token: String,
}

/// Findings that have the same values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Field as the caller named it, and value; a field that is not set is empty.
    pub properties: Vec<(String, String)>,
    /// How many.
    pub count: u64,
}

/// One page of groups, the largest first.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// The groups.
    pub results: Vec<Group>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Groups on all pages.
    pub total_size: u64,
}

/// Findings over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Width of each bucket in nanoseconds.
    pub width_ns: u64,
    /// From the first finding's to the last finding's, the empty ones between them included.
    pub buckets: Vec<Bucket>,
}

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Begin; a multiple of the width.
    pub start: Timestamp,
    /// Findings by number of their severity: unspecified, critical, high, medium, low.
    pub by_severity: [u64; 5],
}

impl Bucket {
    /// All findings of the bucket.
    pub fn count(&self) -> u64 {
        self.by_severity.iter().sum()
    }
}

impl Store {
    /// Groups what is selected by the values of fields, and counts.
    pub fn group(&self, query: &GroupQuery) -> Result<Groups, Error> {
        let keys = group_keys(&query.group_by)?;
        let identity = [query.parent.as_str(), &query.filter, &query.group_by];
        let token = Token::read(&query.page_token, &identity)?;
        let mut groups = self.database.read(|db| {
            let selection = Selection::new(db, &query.parent, &query.filter)?;
            groups(db, &selection, &keys)
        })?;
        groups.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let total = groups.len();
        let skip = token.map_or(0, |token| {
            usize::try_from(token.position.0).unwrap_or_default()
        });
        let size = page_size(query.page_size) as usize;
        let end = skip.saturating_add(size);
        let next_page_token = if end < total {
            Token::new(&identity, Vec::new(), (end as i64, 0), total as i64).to_string()
        } else {
            String::new()
        };
        let results = groups
            .into_iter()
            .skip(skip)
            .take(size)
            .map(|(values, count)| Group {
                properties: keys
                    .iter()
                    .map(|key| key.named.clone())
                    .zip(values)
                    .collect(),
                count: count.unsigned_abs(),
            })
            .collect();
        Ok(Groups {
            results,
            next_page_token,
            total_size: total as u64,
        })
    }

    /// The most frequent values of each of these fields among what is selected, at most `limit` of each.
    pub fn facets(
        &self,
        parent: &str,
        filter: &str,
        fields: &[&str],
        limit: u32,
    ) -> Result<Vec<Vec<(String, u64)>>, Error> {
        self.database.read(|db| {
            let selection = Selection::new(db, parent, filter)?;
            let facet = |field: &&str| {
                let mut groups = groups(db, &selection, &group_keys(field)?)?;
                groups.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                let value = |(mut values, count): (Vec<String>, i64)| {
                    (values.pop().unwrap_or_default(), count.unsigned_abs())
                };
                Ok(groups.into_iter().take(limit as usize).map(value).collect())
            };
            fields.iter().map(facet).collect()
        })
    }

    /// What is selected over time, in at most `buckets` buckets of a round width.
    pub fn histogram(&self, parent: &str, filter: &str, buckets: u32) -> Result<Histogram, Error> {
        self.database.read(|db| {
            let selection = Selection::new(db, parent, filter)?;
            histogram(db, &selection, i64::from(buckets.clamp(1, BUCKETS_MAX)))
        })
    }
}

impl Selection {
    /// How many findings are selected.
    pub(crate) fn count(&self, db: &Connection) -> Result<i64, Error> {
        let Some(countable) = Countable::of(self) else {
            return self.count_rows(db);
        };
        let mut total = 0;
        let shortest = Countable::shortest(countable.field());
        for piece in pieces(countable.range, shortest..=SPANS[0]) {
            total += match piece {
                Piece::Spans { span, from, to } => {
                    let mut sql = Sql::default();
                    sql.push("SELECT coalesce(sum(c.n), 0) FROM tally c WHERE ");
                    push_spans(&mut sql, &countable, countable.terms(), span, from, to);
                    collect(db, &sql, |row| row.get::<_, i64>(0))?
                        .into_iter()
                        .sum::<i64>()
                }
                Piece::Rows { from, to } => self.and(within(from, to)).count_rows(db)?,
            };
        }
        Ok(total)
    }
}

/// Rows of `tally` of these terms, in this range, that fulfil the rest.
fn push_spans(
    sql: &mut Sql,
    countable: &Countable,
    terms: &[i64],
    span: usize,
    from: i64,
    to: i64,
) {
    sql.push("c.term_id IN ").bind_list(terms);
    push_span_range(sql, countable, span, from, to);
}

fn push_span_range(sql: &mut Sql, countable: &Countable, span: usize, from: i64, to: i64) {
    sql.push(&format!(" AND c.span = {span} AND c.start >= "))
        .bind(from);
    sql.push(" AND c.start < ").bind(to);
    sql.push(" AND ").condition(&countable.cells, "c");
}

fn within(from: i64, to: i64) -> Condition {
    let bound = |operator, value| Condition::Number {
        column: "event_time",
        operator,
        value,
    };
    Condition::And(vec![
        bound(Operator::GreaterOrEqual, from),
        bound(Operator::Less, to),
    ])
}

/// One field of a grouping.
struct GroupKey {
    named: String,
    by: GroupBy,
}

enum GroupBy {
    Enum {
        column: &'static str,
        names: &'static [&'static str],
    },
    Term(String),
}

fn group_keys(text: &str) -> Result<Vec<GroupKey>, Error> {
    let keys: Vec<_> = text
        .split(',')
        .map(str::trim)
        .map(group_key)
        .collect::<Result<_, _>>()?;
    if keys.len() > GROUP_FIELDS_MAX {
        return Err(Error::invalid(
            "group_by",
            format!("more than {GROUP_FIELDS_MAX} fields"),
        ));
    }
    Ok(keys)
}

fn group_key(named: &str) -> Result<GroupKey, Error> {
    let path = field_path(named).map_err(|error| Error::invalid("group_by", error.message))?;
    let known = enumerations().find(|(field, _)| *field == path);
    let by = if let (Some((_, names)), Some(column)) = (known, column_of_enum(&path)) {
        GroupBy::Enum { column, names }
    } else {
        let path = crate::fields::find(&path).map_or(path, |found| found.path);
        if !GROUPED.contains(&path.as_str()) {
            let fields = enumerations()
                .map(|(field, _)| field)
                .chain(GROUPED.iter().copied());
            return Err(Error::invalid(
                "group_by",
                format!(
                    "findings are not grouped by {named:?}, but by {}",
                    fields.collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        GroupBy::Term(path)
    };
    Ok(GroupKey {
        named: named.to_owned(),
        by,
    })
}

type Counts = Vec<(Vec<String>, i64)>;

fn groups(db: &Connection, selection: &Selection, keys: &[GroupKey]) -> Result<Counts, Error> {
    let Some(countable) = Countable::of(selection).filter(|countable| is_tallied(countable, keys))
    else {
        return group_rows(db, selection, keys);
    };
    let mut counts = BTreeMap::new();
    let mut add = |found: Counts| {
        for (values, n) in found {
            *counts.entry(values).or_insert(0) += n;
        }
    };
    let shortest = Countable::shortest(group_facet(keys).or(countable.field()));
    for piece in pieces(countable.range, shortest..=SPANS[0]) {
        match piece {
            Piece::Spans { span, from, to } => {
                add(group_spans(db, &countable, keys, (span, from, to))?)
            }
            Piece::Rows { from, to } => {
                add(group_rows(db, &selection.and(within(from, to)), keys)?)
            }
        }
    }
    Ok(counts.into_iter().filter(|(_, n)| *n > 0).collect())
}

/// Counts know one facet beside the enumerations and the parent.
fn is_tallied(countable: &Countable, keys: &[GroupKey]) -> bool {
    let mut fields: Vec<&str> = countable
        .facet
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    for key in keys {
        if let GroupBy::Term(field) = &key.by
            && field != "parent"
            && !fields.contains(&field.as_str())
        {
            fields.push(field);
        }
    }
    // A finding with a container that was asked for may have another one, which is a group too.
    let has_other_values = countable.facet.is_some()
        && fields.iter().any(|field| !SINGLE.contains(field))
        && keys
            .iter()
            .any(|key| matches!(&key.by, GroupBy::Term(field) if field != "parent"));
    match fields.as_slice() {
        [] => true,
        [field] => FACETS.contains(field) && !has_other_values,
        _ => false,
    }
}

/// The facet field among those grouped by.
fn group_facet(keys: &[GroupKey]) -> Option<&str> {
    keys.iter().find_map(|key| match &key.by {
        GroupBy::Term(field) if field != "parent" => Some(field.as_str()),
        _ => None,
    })
}

fn group_spans(
    db: &Connection,
    countable: &Countable,
    keys: &[GroupKey],
    (span, from, to): (usize, i64, i64),
) -> Result<Counts, Error> {
    let facet = group_facet(keys);
    let mut sql = Sql::default();
    sql.push("SELECT sum(c.n)");
    for key in keys {
        match &key.by {
            GroupBy::Enum { column, .. } => sql.push(&format!(", c.{column}")),
            GroupBy::Term(field) if field == "parent" => {
                sql.push(", (SELECT value FROM term WHERE id = c.parent_id)")
            }
            GroupBy::Term(_) => sql.push(", t.value"),
        };
    }
    match (facet, &countable.facet) {
        (Some(field), None) => {
            sql.push(" FROM term t CROSS JOIN tally c WHERE c.term_id = t.id AND t.field = ")
                .bind(field.to_owned());
        }
        (Some(_), Some((_, ids))) => {
            sql.push(" FROM term t CROSS JOIN tally c WHERE c.term_id = t.id AND t.id IN ")
                .bind_list(ids);
        }
        (None, _) => {
            sql.push(" FROM tally c WHERE c.term_id IN ")
                .bind_list(countable.terms());
        }
    }
    push_span_range(&mut sql, countable, span, from, to);
    push_group_by(&mut sql, keys.len());
    collect_groups(db, &sql, keys)
}

fn group_rows(db: &Connection, selection: &Selection, keys: &[GroupKey]) -> Result<Counts, Error> {
    let driver = selection.driver(db, i64::MAX)?;
    let mut sql = Sql::default();
    // First by numbers; the names of terms are looked up once for each group.
    sql.push("SELECT count(*)");
    let mut joined = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        sql.push(&match &key.by {
            GroupBy::Enum { column, .. } => format!(", s.{column}"),
            GroupBy::Term(field) => match column_of_term(field) {
                Some(column) => format!(", s.{column}"),
                None => {
                    joined.push((number, field));
                    format!(", g{number}.term_id")
                }
            },
        });
    }
    sql.push(" FROM (SELECT f.*");
    selection.source(&mut sql, &driver);
    sql.push(") s");
    for (number, _) in &joined {
        sql.push(&format!(" CROSS JOIN grouping g{number}"));
    }
    sql.push(" WHERE 1 = 1");
    for (number, field) in joined {
        sql.push(&format!(
            " AND g{number}.finding_id = s.id AND g{number}.field = "
        ))
        .bind(grouped_number(field));
    }
    push_group_by(&mut sql, keys.len());
    let rows: Vec<(i64, Vec<i64>)> = collect(db, &sql, |row| {
        let values = (1..=keys.len())
            .map(|at| row.get(at))
            .collect::<Result<_, _>>()?;
        Ok((row.get(0)?, values))
    })?;
    let mut name = db.prepare_cached("SELECT value FROM term WHERE id = $1")?;
    let mut counts = Vec::new();
    for (n, numbers) in rows {
        let mut values = Vec::new();
        for (key, number) in keys.iter().zip(numbers) {
            values.push(match (&key.by, number) {
                (GroupBy::Enum { names, .. }, number) => enum_name(names, number),
                (GroupBy::Term(_), id) => name.query_row([id], |row| row.get(0))?,
            });
        }
        counts.push((values, n));
    }
    Ok(counts)
}

fn push_group_by(sql: &mut Sql, keys: usize) {
    let columns: Vec<String> = (2..keys + 2).map(|column| column.to_string()).collect();
    sql.push(" GROUP BY ").push(&columns.join(", "));
}

fn collect_groups(db: &Connection, sql: &Sql, keys: &[GroupKey]) -> Result<Counts, Error> {
    collect(db, sql, |row| {
        let mut values = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            values.push(match &key.by {
                GroupBy::Enum { names, .. } => enum_name(names, row.get(at + 1)?),
                GroupBy::Term(_) => row.get(at + 1)?,
            });
        }
        Ok((values, row.get(0)?))
    })
}

fn enum_name(names: &[&str], number: i64) -> String {
    let name = usize::try_from(number)
        .ok()
        .and_then(|number| names.get(number));
    name.copied().unwrap_or_default().to_owned()
}

const SECOND: i64 = 1_000_000_000;

/// Widths that people read easily.
const WIDTHS: [i64; 19] = [
    SECOND,
    5 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    5 * 60 * SECOND,
    15 * 60 * SECOND,
    30 * 60 * SECOND,
    3600 * SECOND,
    2 * 3600 * SECOND,
    3 * 3600 * SECOND,
    6 * 3600 * SECOND,
    12 * 3600 * SECOND,
    86_400 * SECOND,
    2 * 86_400 * SECOND,
    7 * 86_400 * SECOND,
    14 * 86_400 * SECOND,
    28 * 86_400 * SECOND,
    364 * 86_400 * SECOND,
];

fn histogram(db: &Connection, selection: &Selection, buckets: i64) -> Result<Histogram, Error> {
    let parts: Vec<&Condition> = selection.parts.iter().collect();
    let (from, to) = time_range(&parts);
    let (first, last) = bounds(db, selection)?;
    let (from, to) = (from.max(first), to.min(last.saturating_add(1)));
    let fits = |width: &i64| (to - 1) / width - from / width < buckets;
    let width = WIDTHS.into_iter().find(fits).unwrap_or(WIDTHS[18]);
    if from >= to {
        return Ok(Histogram {
            width_ns: width.unsigned_abs(),
            buckets: Vec::new(),
        });
    }
    let mut counts: BTreeMap<i64, [u64; 5]> = BTreeMap::new();
    let mut add = |rows: Vec<(i64, i64, i64)>| {
        for (start, severity, n) in rows {
            let severity = usize::try_from(severity).unwrap_or_default().min(4);
            counts.entry(start).or_default()[severity] += n.unsigned_abs();
        }
    };
    match Countable::of(selection) {
        Some(countable) => {
            for piece in pieces((from, to), Countable::shortest(countable.field())..=width) {
                match piece {
                    Piece::Spans { span, from, to } => {
                        let mut sql = Sql::default();
                        sql.push(&format!("SELECT c.start / {width} * {width}, c.severity, sum(c.n) FROM tally c WHERE "));
                        push_spans(&mut sql, &countable, countable.terms(), span, from, to);
                        sql.push(" GROUP BY 1, 2 HAVING sum(c.n) > 0");
                        add(collect(db, &sql, |row| {
                            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                        })?);
                    }
                    Piece::Rows { from, to } => {
                        add(bucket_rows(db, &selection.and(within(from, to)), width)?)
                    }
                }
            }
        }
        None => add(bucket_rows(db, &selection.and(within(from, to)), width)?),
    }
    let found = (
        counts.keys().next().copied(),
        counts.keys().next_back().copied(),
    );
    let (Some(first), Some(last)) = found else {
        return Ok(Histogram {
            width_ns: width.unsigned_abs(),
            buckets: Vec::new(),
        });
    };
    let buckets = (0..=(last - first) / width)
        .map(|number| first + number * width)
        .map(|start| Bucket {
            start: timestamp(start),
            by_severity: counts.get(&start).copied().unwrap_or_default(),
        });
    Ok(Histogram {
        width_ns: width.unsigned_abs(),
        buckets: buckets.collect(),
    })
}

/// Times of the oldest and newest finding that the driver leads to; all that are selected lie between them.
fn bounds(db: &Connection, selection: &Selection) -> Result<(i64, i64), Error> {
    let driver = selection.driver(db, i64::MAX)?;
    let mut bounds = (i64::MAX, 0);
    let mut first = db.prepare_cached("SELECT min(event_time) FROM posting WHERE term_id = $1")?;
    let mut last = db.prepare_cached("SELECT max(event_time) FROM posting WHERE term_id = $1")?;
    for term in driver.terms() {
        let from: Option<i64> = first.query_row([term], |row| row.get(0))?;
        let to: Option<i64> = last.query_row([term], |row| row.get(0))?;
        bounds = (
            bounds.0.min(from.unwrap_or(i64::MAX)),
            bounds.1.max(to.unwrap_or(0)),
        );
    }
    Ok(bounds)
}

fn bucket_rows(
    db: &Connection,
    selection: &Selection,
    width: i64,
) -> Result<Vec<(i64, i64, i64)>, Error> {
    let driver = selection.driver(db, i64::MAX)?;
    let mut sql = Sql::default();
    sql.push(&format!(
        "SELECT p.event_time / {width} * {width}, f.severity, count(*)"
    ));
    selection.source(&mut sql, &driver);
    sql.push(" GROUP BY 1, 2");
    collect(db, &sql, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}
