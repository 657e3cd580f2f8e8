//! Counting what is selected: totals and groups.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::fields::{column_of_enum, column_of_term, enumerations};
use crate::filter::field_path;
use crate::index::SPANS;
use crate::page::Token;
use crate::query::page_size;
use crate::select::{Selection, collect};
use crate::sql::Sql;
use crate::tally::{Countable, Piece, pieces};
use crate::terms::{FACETS, GROUPED, SINGLE, grouped_number};
use crate::{Error, Store};

/// Fields in one grouping.
const GROUP_FIELDS_MAX: usize = 6;

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
}

impl Selection {
    /// Counts tell how many findings are selected, without looking at them.
    pub(crate) fn is_counted(&self) -> bool {
        Countable::of(self).is_some()
    }

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
                Piece::Rows { from, to } => self.during(from, to).count_rows(db)?,
            };
        }
        Ok(total)
    }
}

/// Rows of `tally` of these terms, in this range, that fulfil the rest.
pub(crate) fn push_spans(
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
            Piece::Rows { from, to } => add(group_rows(db, &selection.during(from, to), keys)?),
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
