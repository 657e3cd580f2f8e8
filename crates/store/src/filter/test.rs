//! What a comparison asks of one value.

use model::Timestamp;

use super::{Comparison, Error, Operator, Value};
use crate::fields::Kind;
use crate::ns;

/// What one value must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// Exactly this.
    Equal(String),
    /// This, whatever the case.
    Same(String),
    /// Has this within, whatever the case.
    Has(String),
    /// As a number.
    Number { operator: Operator, value: f64 },
    /// As a time from the first of these on and before the second, in nanoseconds since the epoch.
    Time(i64, i64),
    /// Between these two, both included.
    Between(String, String),
    /// Anything.
    Present,
}

impl Test {
    /// Whether a number passes.
    pub(crate) fn passes(&self, number: u32) -> bool {
        let text = || number.to_string();
        let number = f64::from(number);
        match self {
            Self::Number { operator, value } => match operator {
                Operator::Equal | Operator::Has => number == *value,
                Operator::NotEqual => number != *value,
                Operator::Less => number < *value,
                Operator::LessOrEqual => number <= *value,
                Operator::Greater => number > *value,
                Operator::GreaterOrEqual => number >= *value,
            },
            Self::Equal(value) | Self::Same(value) => text() == *value,
            Self::Has(value) => text().contains(value),
            Self::Between(first, last) => (first..=last).contains(&&text()),
            Self::Time(..) => false,
            Self::Present => true,
        }
    }
}

/// `None` asks for the field not to be set, which is what equality with empty text means.
pub(super) fn test(kind: Kind, fold: bool, comparison: &Comparison) -> Result<Option<Test>, Error> {
    let number = |operator, value| Ok(Some(Test::Number { operator, value }));
    let operator = comparison.operator;
    let is_unset = operator == Operator::Equal
        && matches!(&comparison.value, Value::Text(text) if text.is_empty());
    let is_any = matches!(
        (operator, &comparison.value),
        (Operator::Equal | Operator::Has, Value::Any)
    );
    match kind {
        // One that is not set is 0.
        Kind::Number if is_unset => return number(Operator::Equal, 0.0),
        Kind::Number if is_any => return number(Operator::NotEqual, 0.0),
        _ if is_unset => return Ok(None),
        Kind::Flag => return flag(comparison),
        _ if is_any => return Ok(Some(Test::Present)),
        Kind::Time => {
            let (from, until) = time_range(comparison)?;
            return Ok(Some(Test::Time(from, until)));
        }
        _ => {}
    }
    let unordered = || misused(comparison, "only numbers and times have an order");
    let test = match (operator, &comparison.value) {
        (Operator::Equal, Value::Text(text)) if kind == Kind::Number => match text.parse() {
            Ok(value) => return number(operator, value),
            Err(_) => Test::Equal(text.clone()),
        },
        (Operator::Equal, Value::Text(text)) if fold => Test::Same(text.clone()),
        (Operator::Equal, Value::Text(text)) => Test::Equal(text.clone()),
        (Operator::Equal, Value::Boolean(value)) => Test::Equal(value.to_string()),
        (Operator::Has, Value::Text(text)) => Test::Has(text.clone()),
        (Operator::Has, Value::Integer(value)) => Test::Has(value.to_string()),
        (Operator::Has, Value::Boolean(value)) => Test::Has(value.to_string()),
        (Operator::Equal, Value::Integer(value)) => return number(operator, *value as f64),
        (_, _) if kind == Kind::Text => {
            return Err(misused(comparison, "this field is text: use = != or :"));
        }
        (_, Value::Integer(value)) => return number(operator, *value as f64),
        (_, Value::Text(text)) => match text.parse() {
            Ok(value) => return number(operator, value),
            Err(_) if kind == Kind::Open && Timestamp::parse(text).is_some() => {
                let (from, until) = time_range(comparison)?;
                Test::Time(from, until)
            }
            Err(_) => return Err(unordered()),
        },
        (_, Value::Boolean(_) | Value::Any) => return Err(unordered()),
    };
    Ok(Some(test))
}

/// A flag that is not set is false.
fn flag(comparison: &Comparison) -> Result<Option<Test>, Error> {
    let is_true = match (comparison.operator, &comparison.value) {
        (Operator::Equal, Value::Boolean(value)) => *value,
        (Operator::Equal | Operator::Has, Value::Any) => true,
        _ => return Err(misused(comparison, "use = or != with true or false")),
    };
    Ok(is_true.then(|| Test::Equal("true".to_owned())))
}

/// The times that are meant, in nanoseconds: from the first on and before the second.
pub(super) fn time_range(comparison: &Comparison) -> Result<(i64, i64), Error> {
    const MILLISECOND: i64 = 1_000_000;
    let (start, end) = match (comparison.operator, &comparison.value) {
        (Operator::Has, _) => {
            return Err(misused(comparison, "a time is compared by = < <= > >="));
        }
        (_, Value::Text(text)) => {
            let time = Timestamp::parse(text).ok_or_else(|| {
                Error::new(
                    comparison.value_position,
                    format!("{text:?} is not a time such as \"2026-03-01T12:00:00Z\" or milliseconds since 1970"),
                )
            })?;
            (ns(time), ns(time).saturating_add(1))
        }
        // A time finer than a millisecond equals the millisecond it is in.
        (_, Value::Integer(milliseconds)) => {
            let start = milliseconds.saturating_mul(MILLISECOND);
            (start, start.saturating_add(MILLISECOND))
        }
        (_, Value::Boolean(_) | Value::Any) => {
            return Err(misused(comparison, "expected a time"));
        }
    };
    Ok(match comparison.operator {
        Operator::Less => (i64::MIN, start),
        Operator::LessOrEqual => (i64::MIN, end),
        Operator::Greater => (end, i64::MAX),
        Operator::GreaterOrEqual => (start, i64::MAX),
        Operator::Equal | Operator::NotEqual | Operator::Has => (start, end),
    })
}

pub(super) fn misused(comparison: &Comparison, why: &str) -> Error {
    Error::new(
        comparison.value_position,
        format!(
            "{} {}: {why}",
            comparison.field,
            comparison.operator.symbol()
        ),
    )
}
