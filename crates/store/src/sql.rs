//! Conditions to SQL: text with `$n` parameters, built from left to right.
//!
//! Only which values pass a test. Parameters are numbered in the order in which they stand in the text, which is the order
//! SQLite binds `$n` by.

use rusqlite::types::Value;

use crate::filter::{Element, Operator, Test};
use crate::layout::ELEMENT_SUFFIX;
use crate::terms::beginning;

/// Case does not matter to it: SQLite's `LIKE` (for ASCII); PostgreSQL says `ILIKE`.
const LIKE: &str = "LIKE";

/// Our function from the text of a time to nanoseconds since the epoch; NULL for anything else.
pub(crate) const NANOSECONDS: &str = "nanoseconds";

/// Our function from a number, or a text that is one, to a number; NULL for anything else.
pub(crate) const NUMBER: &str = "number_of";

/// A statement in the making.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    pub(crate) text: String,
    pub(crate) parameters: Vec<Value>,
    elements: usize,
}

impl Sql {
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.parameters.push(value.into());
        let number = self.parameters.len();
        self.push(&format!("${number}"))
    }

    /// Which terms: a test of `t.field` and `t.value`.
    pub(crate) fn term(&mut self, field: &str, test: &Test) {
        self.push("t.field = ").bind(field.to_owned());
        self.push(" AND ");
        match test {
            Test::Equal(value) => {
                self.push("t.value = ")
                    .bind(beginning(field, value).to_owned());
            }
            Test::Same(value) => {
                self.push("lower(t.value) = lower(")
                    .bind(beginning(field, value).to_owned());
                self.push(")");
            }
            _ => self.test(test, "t.value", "t.number"),
        }
    }

    /// Which terms: a condition on the elements that they are.
    pub(crate) fn elements(&mut self, field: &str, condition: &Element) {
        self.push("t.field = ").bind(field.to_owned());
        self.push(" AND t.value <> '' AND ");
        let value = if field.ends_with(ELEMENT_SUFFIX) {
            Json {
                value: "t.value".to_owned(),
                kind: "'object'".to_owned(),
                text: "t.value".to_owned(),
                number: "NULL".to_owned(),
            }
        } else {
            Json {
                value: "t.value".to_owned(),
                kind: "'text'".to_owned(),
                text: "t.value".to_owned(),
                number: "t.number".to_owned(),
            }
        };
        self.json(&value, condition);
    }

    fn all<T>(&mut self, parts: &[T], between: &str, none: &str, each: impl Fn(&mut Self, &T)) {
        if parts.is_empty() {
            self.push(none);
            return;
        }
        self.push("(");
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                self.push(between);
            }
            each(self, part);
        }
        self.push(")");
    }

    fn test(&mut self, test: &Test, text: &str, number: &str) {
        match test {
            Test::Equal(value) => {
                self.push(&format!("{text} = ")).bind(value.clone());
            }
            Test::Same(value) => {
                self.push(&format!("lower({text}) = lower("))
                    .bind(value.clone());
                self.push(")");
            }
            Test::Has(value) => {
                self.push(&format!("{text} {LIKE} "))
                    .bind(like_pattern(value));
                self.push(" ESCAPE '\\'");
            }
            Test::Number { operator, value } => {
                self.push(&format!("{number} {} ", symbol(*operator)))
                    .bind(*value);
            }
            Test::Time(from, until) => {
                self.push(&format!("{NANOSECONDS}({text}) >= ")).bind(*from);
                self.push(&format!(" AND {NANOSECONDS}({text}) < "))
                    .bind(*until);
            }
            Test::Between(first, last) => {
                self.push(&format!("{text} BETWEEN ")).bind(first.clone());
                self.push(" AND ").bind(last.clone());
            }
            Test::Present => {
                self.push(&format!("{text} <> ''"));
            }
        }
    }

    /// The one place that depends on the dialect's JSON functions.
    fn json(&mut self, base: &Json, condition: &Element) {
        match condition {
            Element::And(parts) => {
                self.all(parts, " AND ", "1 = 1", |sql, part| sql.json(base, part));
            }
            Element::Or(parts) => {
                self.all(parts, " OR ", "1 = 0", |sql, part| sql.json(base, part));
            }
            Element::Not(inner) => {
                self.push("NOT (").json(base, inner);
                self.push(")");
            }
            Element::Member { path, test } => self.exists(base, path, |sql, value| {
                sql.test(test, &value.text, &value.number);
            }),
            Element::Contains { path, inner } => {
                self.exists(base, path, |sql, value| sql.json(value, inner));
            }
        }
    }

    /// A value at `path` fulfils what `test` writes. Each array on the way is stepped into.
    fn exists(&mut self, base: &Json, path: &[String], test: impl Fn(&mut Self, &Json)) {
        let mut value = base.clone();
        // NULL, of a comparison with what is no number, is false.
        self.push("EXISTS (SELECT 1");
        for (position, key) in path.iter().enumerate() {
            let path = format!("$.\"{}\"", key.replace('"', ""));
            let Json {
                value: json, kind, ..
            } = &value;
            self.push(if position == 0 {
                " FROM "
            } else {
                " CROSS JOIN "
            });
            self.push(&format!(
                "json_each(CASE WHEN {kind} <> 'object' THEN NULL WHEN json_type({json}, "
            ))
            .bind(path.clone());
            self.push(&format!(") = 'array' THEN json_extract({json}, "))
                .bind(path.clone());
            self.push(&format!(") WHEN json_type({json}, "))
                .bind(path.clone());
            self.push(&format!(") IS NOT NULL THEN json_array({json} -> "))
                .bind(path);
            self.elements += 1;
            let name = format!("e{}", self.elements);
            self.push(&format!(") END) {name}"));
            value = Json::of(&name);
        }
        self.push(&format!(" WHERE {} IS NOT NULL AND (", value.value));
        test(self, &value);
        self.push("))");
    }
}

/// Where a JSON value stands.
#[derive(Clone)]
struct Json {
    value: String,
    /// Name of its type.
    kind: String,
    /// A text, number or flag as terms have it.
    text: String,
    number: String,
}

impl Json {
    /// A row of `json_each`.
    fn of(row: &str) -> Self {
        // Flags are numbers to SQLite.
        let scalar = format!("iif({row}.type IN ('true', 'false'), {row}.type, {row}.value)");
        Self {
            value: format!("{row}.value"),
            kind: format!("{row}.type"),
            text: format!("CAST({scalar} AS TEXT)"),
            number: format!("{NUMBER}({scalar})"),
        }
    }
}

fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::NotEqual => "<>",
        // Text search of a number does not get here.
        Operator::Has => "=",
        operator => operator.symbol(),
    }
}

fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;
    use crate::select::collect;

    #[test]
    fn values_are_found_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).unwrap();
        let number = |operator| Test::Number {
            operator,
            value: 4242.0,
        };
        for (test, constraint) in [
            (Test::Equal("x".to_owned()), "(field=? AND value=?)"),
            (
                Test::Between("x".to_owned(), "y".to_owned()),
                "(field=? AND value>? AND value<?)",
            ),
            (number(Operator::Equal), "(field=? AND number=?)"),
            (number(Operator::Less), "(field=? AND number<?)"),
            (number(Operator::LessOrEqual), "(field=? AND number<?)"),
            (number(Operator::Greater), "(field=? AND number>?)"),
            (number(Operator::GreaterOrEqual), "(field=? AND number>?)"),
        ] {
            let mut sql = Sql::default();
            sql.push("EXPLAIN QUERY PLAN SELECT t.id FROM term t WHERE ");
            sql.term("processes.pid", &test);
            let plan: Vec<String> = database
                .read(|db| collect(db, &sql, |row| row.get(3)))
                .unwrap();
            assert!(
                plan.iter().any(|step| step.ends_with(constraint)),
                "{test:?}: {plan:?}"
            );
        }
    }
}
