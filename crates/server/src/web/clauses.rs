//! The query as quick filters see it: clauses joined by AND, some of which say "this field is one of these values".
//!
//! Made from the filter's tree and printed as a filter again, so the query in the address stays the only truth.

use store::filter::{self, Comparison, Expression, Operator, Value};

/// A query taken apart at its outermost ANDs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clauses(Vec<Expression>);

impl Clauses {
    /// Takes a query apart. A query that is wrong has no clauses.
    pub(crate) fn parse(query: &str) -> Self {
        Self(match filter::parse(query) {
            Ok(Expression::And(parts)) => parts,
            Ok(other) => vec![other],
            Err(_) => Vec::new(),
        })
    }

    /// The values that the field is held to; `universe` lists all it can have, when they are few and known.
    pub(crate) fn selected(&self, field: &str, universe: &[&str]) -> Vec<String> {
        let mut selected = Vec::new();
        for clause in &self.0 {
            if let Some(values) = among(clause, field) {
                selected.extend(values.into_iter().map(str::to_owned));
            } else if let Some(value) = excluded(clause, field) {
                let others = universe.iter().filter(|other| **other != value);
                selected.extend(others.map(|other| (*other).to_owned()));
            }
        }
        selected
    }

    /// The query with one value of a field switched on or off.
    pub(crate) fn toggled(&self, field: &str, value: &str, universe: &[&str]) -> String {
        let mut selected = self.selected(field, universe);
        match selected.iter().position(|other| other == value) {
            Some(position) => {
                selected.remove(position);
            }
            None => selected.push(value.to_owned()),
        }
        let mut clauses = self.without(field);
        let everything = !universe.is_empty()
            && universe
                .iter()
                .all(|one| selected.iter().any(|other| other == one));
        if !everything {
            let mut values = selected.iter().map(|value| equal(field, value));
            match (values.next(), selected.len()) {
                (None, _) => {}
                (Some(only), 1) => clauses.0.push(only),
                (Some(first), _) => clauses.0.push(Expression::Or(
                    std::iter::once(first).chain(values).collect(),
                )),
            }
        }
        clauses.to_string()
    }

    /// The query without the clauses that hold the field to values.
    pub(crate) fn without(&self, field: &str) -> Self {
        let keeps = |clause: &&Expression| {
            among(clause, field).is_none() && excluded(clause, field).is_none()
        };
        Self(self.0.iter().filter(keeps).cloned().collect())
    }

    /// The bounds on a time: operator and value.
    pub(crate) fn bounds<'a>(
        &'a self,
        field: &'a str,
    ) -> impl Iterator<Item = (Operator, &'a str)> {
        self.0.iter().filter_map(move |clause| bound(clause, field))
    }

    /// The query without bounds on the field.
    pub(crate) fn without_bounds(&self, field: &str) -> Self {
        Self(
            self.0
                .iter()
                .filter(|clause| bound(clause, field).is_none())
                .cloned()
                .collect(),
        )
    }

    /// The query with the field held to `from` (inclusive) and `to` (exclusive).
    pub(crate) fn within(&self, field: &str, from: Option<&str>, to: Option<&str>) -> String {
        let mut clauses = self.without_bounds(field);
        for (operator, value) in [(Operator::GreaterOrEqual, from), (Operator::Less, to)] {
            if let Some(value) = value {
                clauses.0.push(compare(field, operator, value));
            }
        }
        clauses.to_string()
    }
}

impl std::fmt::Display for Clauses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, clause) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" AND ")?;
            }
            write!(f, "{clause}")?;
        }
        Ok(())
    }
}

/// `field="value"` as a filter writes it.
pub(crate) fn equal_text(field: &str, value: &str) -> String {
    equal(field, value).to_string()
}

fn equal(field: &str, value: &str) -> Expression {
    compare(field, Operator::Equal, value)
}

fn compare(field: &str, operator: Operator, value: &str) -> Expression {
    Expression::Comparison(Comparison {
        field: field.to_owned(),
        position: 0,
        operator,
        value: Value::Text(value.to_owned()),
        value_position: 0,
    })
}

/// The values of `field="a" OR field="b"`.
fn among<'a>(clause: &'a Expression, field: &str) -> Option<Vec<&'a str>> {
    match clause {
        Expression::Or(parts) => parts.iter().map(|part| one(part, field)).collect(),
        other => one(other, field).map(|value| vec![value]),
    }
}

fn one<'a>(clause: &'a Expression, field: &str) -> Option<&'a str> {
    match clause {
        Expression::Comparison(Comparison {
            field: name,
            operator: Operator::Equal,
            value: Value::Text(value),
            ..
        }) if name == field => Some(value),
        _ => None,
    }
}

/// The value of `NOT field="a"`.
fn excluded<'a>(clause: &'a Expression, field: &str) -> Option<&'a str> {
    match clause {
        Expression::Not(inner) => one(inner, field),
        _ => None,
    }
}

fn bound<'a>(clause: &'a Expression, field: &str) -> Option<(Operator, &'a str)> {
    match clause {
        Expression::Comparison(Comparison {
            field: name,
            operator:
                operator @ (Operator::Less
                | Operator::LessOrEqual
                | Operator::Greater
                | Operator::GreaterOrEqual),
            value: Value::Text(value),
            ..
        }) if name == field => Some((*operator, value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUTES: &[&str] = &["UNDEFINED", "UNMUTED", "MUTED"];

    fn toggled(query: &str, field: &str, value: &str) -> String {
        let universe = if field == "mute" { MUTES } else { &[] };
        Clauses::parse(query).toggled(field, value, universe)
    }

    #[test]
    fn values_are_switched_on_and_off() {
        assert_eq!(toggled("", "severity", "HIGH"), r#"severity="HIGH""#);
        assert_eq!(
            toggled(r#"severity="HIGH""#, "severity", "LOW"),
            r#"(severity="HIGH" OR severity="LOW")"#
        );
        assert_eq!(
            toggled(r#"severity="HIGH" OR severity="LOW""#, "severity", "HIGH"),
            r#"severity="LOW""#
        );
        assert_eq!(
            toggled(r#"severity="HIGH" AND category:"b""#, "severity", "HIGH"),
            r#"category:"b""#
        );
        assert_eq!(
            toggled(r#"state="ACTIVE" AND NOT mute="MUTED""#, "state", "ACTIVE"),
            r#"NOT mute="MUTED""#
        );
    }

    #[test]
    fn a_negated_value_means_all_the_others() {
        let clauses = Clauses::parse(r#"state="ACTIVE" AND -mute="MUTED""#);
        assert_eq!(clauses.selected("mute", MUTES), ["UNDEFINED", "UNMUTED"]);
        assert_eq!(toggled(r#"NOT mute="MUTED""#, "mute", "MUTED"), "");
        assert_eq!(
            toggled(r#"NOT mute="MUTED""#, "mute", "UNMUTED"),
            r#"mute="UNDEFINED""#
        );
    }

    #[test]
    fn other_clauses_keep_their_meaning() {
        for query in [
            r#"category="1" OR severity="LOW""#,
            r#"NOT (category="1" AND severity="LOW")"#,
            r#"(category="1" AND state="ACTIVE") OR (category="3")"#,
        ] {
            let changed = toggled(query, "mute", "MUTED");
            let expected = format!("({query}) AND mute=\"MUTED\"");
            assert_eq!(
                Clauses::parse(&changed).to_string(),
                Clauses::parse(&expected).to_string()
            );
            assert_eq!(
                Clauses::parse(query).selected("category", &[]),
                [""; 0],
                "{query}"
            );
        }
    }

    #[test]
    fn a_value_with_quotes_and_backslashes_survives() {
        let value = r#"a" OR state="x\"#;
        let query = toggled("", "category", value);
        assert_eq!(Clauses::parse(&query).selected("category", &[]), [value]);
    }

    #[test]
    fn a_range_replaces_the_one_before() {
        let query = r#"event_time>="2026-01-01T00:00:00Z" AND category="1" AND event_time<"2026-01-02T00:00:00Z""#;
        let clauses = Clauses::parse(query);
        let bounds: Vec<_> = clauses.bounds("event_time").collect();
        assert_eq!(
            bounds,
            [
                (Operator::GreaterOrEqual, "2026-01-01T00:00:00Z"),
                (Operator::Less, "2026-01-02T00:00:00Z")
            ]
        );
        assert_eq!(
            clauses.within("event_time", None, Some("2026-01-03T00:00:00Z")),
            r#"category="1" AND event_time<"2026-01-03T00:00:00Z""#
        );
    }
}
