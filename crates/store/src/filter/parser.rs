//! Text to tree, in one pass without a separate lexer: what a character means depends on where it stands.

use super::{
    COMPARISONS_MAX, Comparison, DEPTH_MAX, Error, Expression, FILTER_BYTES_MAX, Operator, Value,
};
use crate::terms::is_verbatim;

/// Reads a filter. Empty or blank text selects everything. Fields are not checked against what a finding has.
pub fn parse(text: &str) -> Result<Expression, Error> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(Error::new(
            FILTER_BYTES_MAX,
            format!("the filter is longer than {FILTER_BYTES_MAX} bytes"),
        ));
    }
    let mut parser = Parser::new(text);
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Expression::And(Vec::new()));
    }
    let expression = parser.expression()?;
    match parser.rest().chars().next() {
        None => Ok(expression),
        Some(')') => Err(parser.error("this parenthesis was not opened")),
        Some(_) => Err(parser.error("expected AND, OR or the end of the filter")),
    }
}

/// Reads a field alone, as orders and groups name it. `security_marks.marks` may stand without key.
pub(crate) fn field_path(text: &str) -> Result<String, Error> {
    let mut parser = Parser::new(text);
    let path = parser.field()?;
    if parser.rest().is_empty() {
        Ok(path)
    } else {
        Err(parser.error(format!("{text:?} is not a field")))
    }
}

/// Maps, whose keys are kept as they are written, in quotes too; of source properties also the keys within.
pub(super) const MAPS: [&str; 3] = [
    "source_properties.",
    "security_marks.marks.",
    "external_systems.",
];

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    comparisons: usize,
    /// Fields are within a source property.
    verbatim: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            comparisons: 0,
            verbatim: false,
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::new(self.at, message)
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `symbol` and the space after it, if it comes next.
    fn take(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
            self.skip_space();
        }
        found
    }

    fn is_keyword_next(&self, keyword: &str) -> bool {
        self.rest().strip_prefix(keyword).is_some_and(|after| {
            after
                .chars()
                .next()
                .is_none_or(|next| !is_name(next) && next != '.')
        })
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword_next(keyword);
        if found {
            self.at += keyword.len();
            self.skip_space();
        }
        found
    }

    /// Everything up to a closing parenthesis or the end.
    fn expression(&mut self) -> Result<Expression, Error> {
        let mut parts = vec![self.factor()?];
        loop {
            if self.take_keyword("AND") {
                parts.push(self.factor()?);
            } else if self.is_keyword_next("OR") {
                return Err(self.error("OR needs a term on its left"));
            } else if self.rest().is_empty() || self.rest().starts_with([')', ',']) {
                return Ok(one_or(parts, Expression::And));
            } else {
                parts.push(self.factor()?);
            }
        }
    }

    fn factor(&mut self) -> Result<Expression, Error> {
        let mut parts = vec![self.term()?];
        while self.take_keyword("OR") {
            parts.push(self.term()?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    fn term(&mut self) -> Result<Expression, Error> {
        if self.take_keyword("NOT") || self.take("-") {
            return Ok(Expression::Not(Box::new(self.simple()?)));
        }
        self.simple()
    }

    fn simple(&mut self) -> Result<Expression, Error> {
        let open = self.at;
        if self.take("(") {
            return self.nested(|parser| {
                let inner = parser.expression()?;
                parser.close(open)?;
                Ok(inner)
            });
        }
        for keyword in ["AND", "OR", "NOT"] {
            if self.is_keyword_next(keyword) {
                return Err(self.error(format!("expected a field before {keyword}")));
            }
        }
        let position = self.at;
        let field = self.field()?;
        let end = self.at;
        self.skip_space();
        if self.rest().starts_with('(') {
            return self.function(&field, position);
        }
        self.comparison(field, position, end)
    }

    fn nested(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<Expression, Error>,
    ) -> Result<Expression, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(format!("more than {DEPTH_MAX} levels of parentheses")));
        }
        let inner = body(self)?;
        self.depth -= 1;
        Ok(inner)
    }

    fn close(&mut self, open: usize) -> Result<(), Error> {
        if self.take(")") {
            Ok(())
        } else if self.rest().is_empty() {
            Err(Error::new(open, "this parenthesis is not closed"))
        } else {
            Err(self.error("expected )"))
        }
    }

    fn function(&mut self, function: &str, position: usize) -> Result<Expression, Error> {
        let open = self.at;
        let (only, is_range) = match function {
            "contains" => (false, false),
            "contains_only" | "containsOnly" => (true, false),
            "in_ip_range" | "inIpRange" => (false, true),
            _ => {
                return Err(Error::new(
                    position,
                    "unknown function; there are contains, containsOnly and inIpRange",
                ));
            }
        };
        self.take("(");
        self.nested(|parser| {
            let position = parser.at;
            let field = parser.field()?;
            parser.skip_space();
            if !parser.take(",") {
                return Err(parser.error("expected a comma and what the field is tested for"));
            }
            let expression = if is_range {
                let position = parser.at;
                let Value::Text(network) = parser.value()? else {
                    return Err(Error::new(
                        position,
                        "expected a network such as \"10.0.0.0/8\"",
                    ));
                };
                parser.count()?;
                Expression::InIpRange {
                    field,
                    position,
                    network,
                }
            } else {
                let outer = parser.verbatim;
                parser.verbatim |= is_verbatim(&format!("{field}."));
                let inner = Box::new(parser.expression()?);
                parser.verbatim = outer;
                Expression::Contains {
                    field,
                    position,
                    only,
                    inner,
                }
            };
            parser.close(open)?;
            Ok(expression)
        })
    }

    fn comparison(
        &mut self,
        field: String,
        position: usize,
        end: usize,
    ) -> Result<Expression, Error> {
        // Longer symbols before their beginnings.
        let operators = [
            Operator::NotEqual,
            Operator::LessOrEqual,
            Operator::GreaterOrEqual,
            Operator::Equal,
            Operator::Less,
            Operator::Greater,
            Operator::Has,
        ];
        let operator = operators
            .into_iter()
            .find(|operator| self.take(operator.symbol()));
        let Some(operator) = operator else {
            let hint = match field.as_str() {
                "and" | "or" | "not" => "; AND, OR and NOT are written in upper case",
                _ => "",
            };
            return Err(Error::new(
                end,
                format!("expected one of = != < <= > >= : after {field:?}{hint}"),
            ));
        };
        self.count()?;
        let value_position = self.at;
        let value = self.value()?;
        Ok(Expression::Comparison(Comparison {
            field,
            position,
            operator,
            value,
            value_position,
        }))
    }

    fn count(&mut self) -> Result<(), Error> {
        self.comparisons += 1;
        if self.comparisons > COMPARISONS_MAX {
            return Err(self.error(format!("more than {COMPARISONS_MAX} comparisons")));
        }
        Ok(())
    }

    /// A path, brought to `snake_case` up to where the keys of a map begin: those are the user's own.
    fn field(&mut self) -> Result<String, Error> {
        let mut path = String::new();
        loop {
            let own = self.verbatim || is_verbatim(&path) || MAPS.contains(&path.as_str());
            let rest = self.rest();
            if own && rest.starts_with(['"', '\'']) {
                path.push_str(&self.string()?);
            } else {
                // Keys of maps may have hyphens; elsewhere a hyphen is a negation.
                let length = rest
                    .find(|character| !(is_name(character) || own && character == '-'))
                    .unwrap_or(rest.len());
                let name = rest.get(..length).unwrap_or_default();
                if name.is_empty() {
                    return Err(self.error("expected the name of a field"));
                }
                if path.is_empty() && name.starts_with(|first: char| first.is_ascii_digit()) {
                    return Err(self.error("a field does not begin with a digit"));
                }
                if own {
                    path.push_str(name);
                } else {
                    push_snake_case(&mut path, name);
                }
                self.at += length;
            }
            if !self.rest().starts_with('.') {
                return Ok(path);
            }
            self.at += 1;
            path.push('.');
        }
    }

    fn value(&mut self) -> Result<Value, Error> {
        let rest = self.rest();
        if rest.starts_with(['"', '\'']) {
            let text = self.string()?;
            self.skip_space();
            return Ok(Value::Text(text));
        }
        let length = rest
            .find(|character: char| character.is_whitespace() || "(),\"'=<>".contains(character))
            .unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        let value = match word {
            "" => return Err(self.error("expected a value")),
            "AND" | "OR" | "NOT" => {
                return Err(self.error(format!("expected a value before {word}")));
            }
            "*" => Value::Any,
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            _ if is_integer(word) => {
                let number = word.parse();
                Value::Integer(
                    number.map_err(|_| self.error("this number does not fit in 64 bits"))?,
                )
            }
            _ => Value::Text(word.to_owned()),
        };
        self.at += length;
        self.skip_space();
        Ok(value)
    }

    fn string(&mut self) -> Result<String, Error> {
        let open = self.at;
        let mut characters = self.rest().char_indices();
        let Some((_, quote)) = characters.next() else {
            return Err(self.error("expected a string"));
        };
        let mut text = String::new();
        while let Some((offset, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\'' | '\\'))) => text.push(escaped),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, 't')) => text.push('\t'),
                    _ => {
                        return Err(Error::new(
                            open + offset,
                            r#"unknown escape; there are \" \' \\ \n \r and \t"#,
                        ));
                    }
                },
                _ if character == quote => {
                    self.at = open + offset + character.len_utf8();
                    return Ok(text);
                }
                _ => text.push(character),
            }
        }
        Err(Error::new(open, "this string is not closed"))
    }
}

fn is_integer(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1
        && let Some(part) = parts.pop()
    {
        return part;
    }
    many(parts)
}

/// `envVariables` becomes `env_variables`; a name without lower-case letters stays.
pub(crate) fn push_snake_case(path: &mut String, name: &str) {
    let mixed = name.contains(|character: char| character.is_ascii_lowercase());
    for (position, character) in name.char_indices() {
        if mixed && character.is_ascii_uppercase() {
            if position > 0 {
                path.push('_');
            }
            path.push(character.to_ascii_lowercase());
        } else {
            path.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let printed = match parse(text) {
            Ok(expression) => expression.to_string(),
            Err(error) => format!("{}: {}", error.position, error.message),
        };
        assert_eq!(printed, expect, "{text}");
        if let Ok(expression) = parse(text) {
            let again = parse(&expression.to_string()).map(|again| again.to_string());
            assert_eq!(again.as_deref(), Ok(expect), "printed form of {text}");
        }
    }

    #[test]
    fn or_binds_tighter_than_and() {
        check("a=1 AND b=2 OR c=3", "(a=1 AND (b=2 OR c=3))");
        check("a=1 OR b=2 AND c=3", "((a=1 OR b=2) AND c=3)");
        check(
            "a=1 OR b=2 AND c=3 OR d=4",
            "((a=1 OR b=2) AND (c=3 OR d=4))",
        );
        check("(a=1 AND b=2) OR c=3", "((a=1 AND b=2) OR c=3)");
    }

    #[test]
    fn side_by_side_is_and() {
        check("a=1 b=2 OR c=3", "(a=1 AND (b=2 OR c=3))");
        check("a=1 -b=2", "(a=1 AND NOT b=2)");
        check("a=1(b=2)", "(a=1 AND b=2)");
    }

    #[test]
    fn negation_takes_the_next_term_only() {
        check("NOT a=1 AND b=2", "(NOT a=1 AND b=2)");
        check("-a=1 OR b=2", "(NOT a=1 OR b=2)");
        check("- (a=1 OR b=2)", "NOT (a=1 OR b=2)");
        check("NOT(a=1)", "NOT a=1");
        check("NOTE=1", "NOTE=1");
        check("not_a=1", "not_a=1");
    }

    #[test]
    fn every_operator() {
        check(
            "a=1 b!=1 c<1 d<=1 e>1 f>=1 g:\"x\"",
            "(a=1 AND b!=1 AND c<1 AND d<=1 AND e>1 AND f>=1 AND g:\"x\")",
        );
        check("a = 1", "a=1");
    }

    #[test]
    fn values() {
        check(r#"a="x \"y\" \\ \n""#, r#"a="x \"y\" \\ \n""#);
        check("a='it\\'s'", "a=\"it's\"");
        check("a=-5", "a=-5");
        check("a=true b=false", "(a=true AND b=false)");
        check("severity=HIGH", "severity=\"HIGH\"");
        check("a>2026-03-01T12:00:00Z", "a>\"2026-03-01T12:00:00Z\"");
        check("a:*", "a:*");
        check("a=\"\u{e9}\u{1f600}\"", "a=\"\u{e9}\u{1f600}\"");
    }

    #[test]
    fn fields_in_both_spellings() {
        check(
            "processes.envVariables.name=1",
            "processes.env_variables.name=1",
        );
        check("eventTime>1", "event_time>1");
        check(
            "sourceProperties.Pod_Name=1",
            "source_properties.Pod_Name=1",
        );
        check(
            "sourceProperties.Provenance.executedSha256=1",
            "source_properties.Provenance.executedSha256=1",
        );
        check(
            "sourceProperties.Kubernetes_Labels.app-name=1",
            "source_properties.Kubernetes_Labels.app-name=1",
        );
        check(
            "externalSystems.jira.externalUid=1",
            "external_systems.jira.external_uid=1",
        );
        check(
            "securityMarks.marks.on-call=1",
            "security_marks.marks.on-call=1",
        );
        check("indicator.ipAddresses:1", "indicator.ip_addresses:1");
    }

    #[test]
    fn quoted_keys_are_printed_in_quotes() {
        for quoted in [
            "security_marks.marks.\"a b\"=1",
            "security_marks.marks.\"2026-01-01T00:00:00Z\"=1",
            "external_systems.\"a b.status\"=1",
            "source_properties.\"\"=1",
            "contains(source_properties.A, (\"a b\"=1 AND \"0\"=1 AND b-C.dE=1))",
            "contains(source_properties.A, (\"\"=1 AND \"-a\"=1 AND \"a.\"=1 AND NOT \"NOT\"=1))",
        ] {
            check(quoted, quoted);
        }
        check(
            "security_marks.marks.\"a-b\"=1",
            "security_marks.marks.a-b=1",
        );
    }

    #[test]
    fn functions() {
        check(
            "contains(processes, binary.path:\"sh\" AND args:\"-c\")",
            "contains(processes, (binary.path:\"sh\" AND args:\"-c\"))",
        );
        check("-containsOnly(a, b=1)", "NOT containsOnly(a, b=1)");
        check(
            "contains(sourceProperties.A, bC=1 AND containsOnly(dE, f-G=1)) AND hI=1",
            "(contains(source_properties.A, (bC=1 AND containsOnly(dE, f-G=1))) AND h_i=1)",
        );
        check(
            "inIpRange(indicator.ip_addresses, \"10.0.0.0/8\")",
            "inIpRange(indicator.ip_addresses, \"10.0.0.0/8\")",
        );
    }

    #[test]
    fn blank_is_everything() {
        check("", "");
        check(" \n", "");
    }

    #[test]
    fn errors_name_the_place() {
        check("a", "1: expected one of = != < <= > >= : after \"a\"");
        check(
            "a=1 and b=2",
            "7: expected one of = != < <= > >= : after \"and\"; AND, OR and NOT are written in upper case",
        );
        check("a=", "2: expected a value");
        check("a=1 AND", "7: expected the name of a field");
        check("a=1 AND AND b=1", "8: expected a field before AND");
        check("OR a=1", "0: expected a field before OR");
        check("a=1 AND OR b=2", "8: expected a field before OR");
        check("(a=1", "0: this parenthesis is not closed");
        check("a=1)", "3: this parenthesis was not opened");
        check("a=\"x", "2: this string is not closed");
        check(
            r#"a="\q""#,
            r#"3: unknown escape; there are \" \' \\ \n \r and \t"#,
        );
        check(
            "a=99999999999999999999",
            "2: this number does not fit in 64 bits",
        );
        check(
            "f(a, b=1)",
            "0: unknown function; there are contains, containsOnly and inIpRange",
        );
        check(
            "contains(a)",
            "10: expected a comma and what the field is tested for",
        );
        check("a..b=1", "2: expected the name of a field");
        check("a=1, b=2", "3: expected AND, OR or the end of the filter");
        check("\u{e9}=1", "0: expected the name of a field");
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let deep = |depth: usize| format!("{}a=1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&deep(DEPTH_MAX)).is_ok());
        assert!(parse(&deep(DEPTH_MAX + 1)).is_err());
        let many = |count: usize| vec!["a=1"; count].join(" ");
        assert!(parse(&many(COMPARISONS_MAX)).is_ok());
        assert!(parse(&many(COMPARISONS_MAX + 1)).is_err());
        assert!(parse(&" ".repeat(FILTER_BYTES_MAX + 1)).is_err());
    }
}
