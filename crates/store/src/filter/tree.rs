//! The tree of a filter, and its printed form, which is a filter again.

use std::borrow::Cow;
use std::fmt;

use super::parser::{MAPS, field_path};

/// A filter or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// All hold. Empty: everything.
    And(Vec<Expression>),
    /// At least one holds.
    Or(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// A field against a value.
    Comparison(Comparison),
    /// One element of a repeated field fulfils the inner filter, whose fields are relative to the element.
    Contains {
        /// The repeated field.
        field: String,
        /// Byte offset of the field.
        position: usize,
        /// All elements must fulfil it: `containsOnly`.
        only: bool,
        /// About one element.
        inner: Box<Expression>,
    },
    /// An address lies in a network.
    InIpRange {
        /// The field.
        field: String,
        /// Byte offset of the network.
        position: usize,
        /// E.g. `10.0.0.0/8`.
        network: String,
    },
}

/// A field against a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Path in `snake_case`; keys of maps as written.
    pub field: String,
    /// Byte offset of the field.
    pub position: usize,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: Value,
    /// Byte offset of the value.
    pub value_position: usize,
}

/// A comparison's operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `:`, text within text, whatever the case.
    Has,
}

/// A comparison's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// In quotes, or a bare word.
    Text(String),
    /// Digits without quotes.
    Integer(i64),
    /// `true` or `false` without quotes.
    Boolean(bool),
    /// `*` without quotes: any value at all.
    Any,
}

impl Operator {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Has => ":",
        }
    }
}

/// With all parentheses, so that the grouping shows.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => join(f, parts, " AND "),
            Self::Or(parts) => join(f, parts, " OR "),
            Self::Not(inner) => write!(f, "NOT {inner}"),
            Self::Comparison(comparison) => {
                let Comparison {
                    field,
                    operator,
                    value,
                    ..
                } = comparison;
                write!(f, "{}{}{value}", written(field), operator.symbol())
            }
            Self::Contains {
                field, only, inner, ..
            } => {
                let function = if *only { "containsOnly" } else { "contains" };
                write!(f, "{function}({}, {inner})", written(field))
            }
            Self::InIpRange { field, network, .. } => {
                write!(
                    f,
                    "inIpRange({}, {})",
                    written(field),
                    Value::Text(network.clone())
                )
            }
        }
    }
}

/// A field so that it is read again: a key of a map that is no name is quoted, with what follows it.
fn written(field: &str) -> Cow<'_, str> {
    let is_keyword = ["AND", "OR", "NOT"].contains(&field);
    if !is_keyword && field_path(field).is_ok_and(|path| path == field) {
        return field.into();
    }
    let map = MAPS
        .iter()
        .find_map(|map| Some((map, field.strip_prefix(map)?)));
    let quoted = |key: &str| Value::Text(key.to_owned());
    match map {
        Some((map, key)) => format!("{map}{}", quoted(key)).into(),
        // Within a source property.
        None if is_keyword || !field.split('.').all(is_plain) => quoted(field).to_string().into(),
        None => field.into(),
    }
}

fn is_plain(key: &str) -> bool {
    let is_known = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    key.chars().all(is_known) && key.starts_with(|first: char| first.is_ascii_alphabetic())
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expression], between: &str) -> fmt::Result {
    if parts.is_empty() {
        return Ok(());
    }
    f.write_str("(")?;
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            f.write_str(between)?;
        }
        write!(f, "{part}")?;
    }
    f.write_str(")")
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => {
                f.write_str("\"")?;
                for character in text.chars() {
                    match character {
                        '"' | '\\' => write!(f, "\\{character}")?,
                        '\n' => f.write_str("\\n")?,
                        '\r' => f.write_str("\\r")?,
                        '\t' => f.write_str("\\t")?,
                        _ => write!(f, "{character}")?,
                    }
                }
                f.write_str("\"")
            }
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Any => f.write_str("*"),
        }
    }
}
