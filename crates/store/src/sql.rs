//! Conditions to SQL: text with `$n` parameters, built from left to right.
//!
//! Only what columns cannot answer: which values pass a test, and what a document holds. Parameters are numbered in the
//! order in which they stand in the text, which is the order SQLite binds `$n` by.

use rusqlite::types::Value;

use crate::filter::{Condition, Operator, Test};

/// Case does not matter to it: SQLite's `LIKE` (for ASCII); PostgreSQL says `ILIKE`.
const LIKE: &str = "LIKE";

/// The JSON of a finding.
const DOCUMENT: &str = "d.body";

/// Our function from the text of a time to nanoseconds since the epoch; NULL for anything else.
pub(crate) const NANOSECONDS: &str = "nanoseconds";

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

    /// The condition on the document of finding `$1`.
    pub(crate) fn document(&mut self, id: i64, condition: &Condition) {
        self.push("SELECT EXISTS (SELECT 1 FROM document d WHERE d.finding_id = ")
            .bind(id);
        self.push(" AND ");
        self.within(DOCUMENT, "'object'", condition);
        self.push(")");
    }

    /// Which terms: a test of `t.field` and `t.value`.
    pub(crate) fn term(&mut self, field: &str, test: &Test) {
        self.push("t.field = ").bind(field.to_owned());
        self.push(" AND ");
        self.test(test, "t.value", "t.number");
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
                let value = crate::terms::beginning(value);
                self.push(&format!("{text} = ")).bind(value.to_owned());
            }
            Test::Same(value) => {
                self.push(&format!("lower({text}) = lower("))
                    .bind(crate::terms::beginning(value).to_owned());
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

    /// A condition on the JSON `base`, whose type is `kind`. The one place that depends on the dialect's JSON functions.
    fn within(&mut self, base: &str, kind: &str, condition: &Condition) {
        match condition {
            Condition::And(parts) => self.all(parts, " AND ", "1 = 1", |sql, part| {
                sql.within(base, kind, part)
            }),
            Condition::Or(parts) => self.all(parts, " OR ", "1 = 0", |sql, part| {
                sql.within(base, kind, part)
            }),
            Condition::Not(inner) => {
                self.push("NOT (").within(base, kind, inner);
                self.push(")");
            }
            Condition::Document { path, test } => {
                self.push("EXISTS (SELECT 1");
                let (value, _) = self.walk(base, kind, path);
                self.push(if path.is_empty() { " WHERE " } else { " AND " });
                let number = format!("CAST({value} AS REAL)");
                // JSON's booleans are numbers to SQLite.
                match test {
                    Test::Equal(text) if text == "true" || text == "false" => {
                        self.push(&format!("({value} = "))
                            .bind(text.clone())
                            .push(&format!(" OR {value} = "))
                            .bind(i64::from(text == "true"));
                        self.push(")");
                    }
                    Test::Equal(text) => {
                        self.push(&format!("{value} = ")).bind(text.clone());
                    }
                    _ => self.test(test, &value, &number),
                }
                self.push(")");
            }
            Condition::Element { path, only, inner } => {
                if *only {
                    self.push("(");
                    self.element(base, kind, path, None);
                    self.push(" AND NOT ");
                    self.element(base, kind, path, Some((inner, "NOT ")));
                    self.push(")");
                } else {
                    self.element(base, kind, path, Some((inner, "")));
                }
            }
            // Not made inside elements.
            Condition::Enum { .. }
            | Condition::Number { .. }
            | Condition::Name(_)
            | Condition::Term { .. }
            | Condition::Ids { .. }
            | Condition::Any { .. }
            | Condition::Rows(_)
            | Condition::Within { .. } => {
                self.push("1 = 0");
            }
        }
    }

    fn element(
        &mut self,
        base: &str,
        kind: &str,
        path: &[String],
        inner: Option<(&Condition, &str)>,
    ) {
        self.push("EXISTS (SELECT 1");
        let (value, kind) = self.walk(base, kind, path);
        if let Some((inner, not)) = inner {
            self.push(&format!(" AND {not}("));
            self.within(&value, &kind, inner);
            self.push(")");
        }
        self.push(")");
    }

    /// ` FROM ... WHERE value IS NOT NULL` that yields each value at `path`, stepping into every array on the way.
    /// Returns the names of the value and of its type.
    fn walk(&mut self, base: &str, kind: &str, path: &[String]) -> (String, String) {
        let (mut value, mut kind) = (base.to_owned(), kind.to_owned());
        // The document's two roots are objects: with what follows them they are one step, which saves copying them.
        let root = if base == DOCUMENT {
            path.len().min(2)
        } else {
            path.len().min(1)
        };
        let (first, rest) = path.split_at(root);
        let steps = std::iter::once(first).filter(|first| !first.is_empty());
        for (position, keys) in steps.chain(rest.chunks(1)).enumerate() {
            self.elements += 1;
            let name = format!("e{}", self.elements);
            let keys = keys
                .iter()
                .map(|key| format!(".\"{}\"", key.replace('"', "")));
            let json = format!("${}", keys.collect::<String>());
            self.push(if position == 0 {
                " FROM "
            } else {
                " CROSS JOIN "
            });
            self.push(&format!(
                "json_each(CASE WHEN {kind} <> 'object' THEN NULL WHEN json_type({value}, "
            ))
            .bind(json.clone());
            self.push(&format!(") = 'array' THEN json_extract({value}, "))
                .bind(json.clone());
            self.push(&format!(") ELSE json_array(json_extract({value}, "))
                .bind(json);
            self.push(&format!(")) END) {name}"));
            value = format!("{name}.value");
            kind = format!("{name}.type");
        }
        if !path.is_empty() {
            self.push(&format!(" WHERE {value} IS NOT NULL"));
        }
        (value, kind)
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
