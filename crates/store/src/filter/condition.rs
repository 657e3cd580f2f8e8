//! Tree to condition: fields looked up, values typed, names checked. Still without a database.

use std::net::{IpAddr, Ipv6Addr};

use super::test::{Test, misused, test, time_range};
use super::{Comparison, Error, Expression, Operator, Value};
use crate::column::Ids;
use crate::fields::{self, Found, Kind, Place};
use crate::name::FindingName;
use crate::terms;

/// What a row must fulfil.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// All; everything when empty.
    And(Vec<Condition>),
    /// At least one; nothing when empty.
    Or(Vec<Condition>),
    /// Not.
    Not(Box<Condition>),
    /// An enumeration has one of these numbers.
    Enum { column: &'static str, numbers: Ids },
    /// A column of numbers against a number.
    Number {
        column: &'static str,
        operator: Operator,
        value: i64,
    },
    /// The finding itself.
    Name(FindingName),
    /// One of the finding's terms of this field passes.
    Term { field: String, test: Test },
    /// One of the finding's terms of this field has one of these ids. Made from `Term` once the database has been asked.
    Ids { field: String, ids: Ids },
    /// The finding has a term of this field other than this one.
    Any { field: String, except: Option<u32> },
    /// One of these findings. Made from `Name`.
    Rows(Vec<i64>),
    /// One of the values at this path of the document, or of the element, passes.
    Document { path: Vec<String>, test: Test },
    /// An element at this path of the document fulfils the inner condition, whose paths begin at the element.
    Element {
        path: Vec<String>,
        only: bool,
        inner: Box<Condition>,
    },
    /// The same for a repeated field whose elements the columns tell apart: the inner condition is made of terms.
    Within {
        field: String,
        only: bool,
        inner: Box<Condition>,
        /// For findings with more elements than are told apart.
        exact: Box<Condition>,
    },
}

impl Condition {
    /// Columns alone do not answer it.
    pub(super) fn needs_documents(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::needs_documents),
            Self::Not(inner) => inner.needs_documents(),
            Self::Document { .. } | Self::Element { .. } => true,
            _ => false,
        }
    }
}

/// Checks a tree against the fields a finding has.
pub(crate) fn compile(expression: &Expression) -> Result<Condition, Error> {
    Ok(match expression {
        Expression::And(parts) => Condition::And(all(parts, compile)?),
        Expression::Or(parts) => Condition::Or(all(parts, compile)?),
        Expression::Not(inner) => Condition::Not(Box::new(compile(inner)?)),
        Expression::Comparison(comparison) => {
            let found = find(&comparison.field, comparison.position)?;
            negate_if_not_equal(comparison, |comparison| compare(&found, comparison))?
        }
        Expression::Contains {
            field,
            position,
            only,
            inner,
        } => contains(field, *position, *only, inner)?,
        Expression::InIpRange {
            field,
            position,
            network,
        } => {
            let found = find(field, *position)?;
            if !terms::ADDRESSES.contains(&found.path.as_str()) {
                return Err(Error::new(
                    *position,
                    format!("inIpRange works on {}", terms::ADDRESSES.join(", ")),
                ));
            }
            let (first, last) = range(network).ok_or_else(|| {
                Error::new(
                    *position,
                    format!("{network:?} is not a network such as 10.0.0.0/8"),
                )
            })?;
            Condition::Term {
                field: format!("{}{}", found.path, terms::ADDRESS_SUFFIX),
                test: Test::Between(first, last),
            }
        }
    })
}

fn all(
    parts: &[Expression],
    each: impl Fn(&Expression) -> Result<Condition, Error>,
) -> Result<Vec<Condition>, Error> {
    parts.iter().map(each).collect()
}

fn find(field: &str, position: usize) -> Result<Found, Error> {
    fields::find(field).map_err(|similar| {
        let hint = match similar.as_slice() {
            [] => String::new(),
            _ => format!("; did you mean {}?", similar.join(" or ")),
        };
        Error::new(position, format!("a finding has no field {field:?}{hint}"))
    })
}

/// `a != b` is `NOT a = b`: true also where the field is not set.
fn negate_if_not_equal(
    comparison: &Comparison,
    compile: impl FnOnce(&Comparison) -> Result<Condition, Error>,
) -> Result<Condition, Error> {
    if comparison.operator != Operator::NotEqual {
        return compile(comparison);
    }
    let equal = Comparison {
        operator: Operator::Equal,
        ..comparison.clone()
    };
    Ok(Condition::Not(Box::new(compile(&equal)?)))
}

fn compare(found: &Found, comparison: &Comparison) -> Result<Condition, Error> {
    let Comparison {
        operator, value, ..
    } = comparison;
    match (found.place, found.kind) {
        (Place::Name, _) => {
            let (Operator::Equal, Value::Text(name)) = (operator, value) else {
                return Err(misused(comparison, "name is compared by = with a text"));
            };
            let name = FindingName::parse(name)
                .map_err(|error| Error::new(comparison.value_position, error.to_string()))?;
            Ok(Condition::Name(name))
        }
        (Place::Column(column), Kind::Enum(names)) => enumeration(column, names, comparison),
        (Place::Column(column), Kind::Time) => time(column, comparison),
        (Place::Column(column), _) => match (operator, value) {
            (Operator::Has, _) => Err(misused(comparison, "a number is not searched by :")),
            (_, Value::Integer(value)) => Ok(Condition::Number {
                column,
                operator: *operator,
                value: *value,
            }),
            _ => Err(misused(comparison, "expected a number without quotes")),
        },
        (Place::TermColumn(_) | Place::Term, kind) => {
            let fold = found.path.starts_with("security_marks.");
            let term = |test| Condition::Term {
                field: found.path.clone(),
                test,
            };
            let not = |condition| Condition::Not(Box::new(condition));
            // Fields to group by have a term for no value.
            let grouped = terms::GROUPED.contains(&found.path.as_str());
            let none = || Test::Equal(String::new());
            Ok(match test(kind, fold, comparison)? {
                Some(Test::Present) if grouped => not(term(none())),
                None if grouped => term(none()),
                None => not(term(Test::Present)),
                Some(test) => term(test),
            })
        }
        (Place::Document, kind) => {
            let path = fields::document_path(&found.path);
            Ok(match test(kind, false, comparison)? {
                Some(test) => Condition::Document { path, test },
                None => Condition::Not(Box::new(Condition::Document {
                    path,
                    test: Test::Present,
                })),
            })
        }
    }
}

fn enumeration(
    column: &'static str,
    names: &'static [&'static str],
    comparison: &Comparison,
) -> Result<Condition, Error> {
    let matches = |test: &dyn Fn(&str) -> bool| {
        let numbers: Vec<u32> = names
            .iter()
            .enumerate()
            .filter(|(_, name)| test(name))
            .map(|(number, _)| number as u32)
            .collect();
        Condition::Enum {
            column,
            numbers: numbers.into(),
        }
    };
    match (comparison.operator, &comparison.value) {
        (Operator::Equal | Operator::Has, Value::Any) => Ok(matches(&|name| name != names[0])),
        (Operator::Equal, Value::Text(text)) if text.is_empty() => {
            Ok(matches(&|name| name == names[0]))
        }
        (Operator::Equal, Value::Text(text)) => {
            let known = names.iter().any(|name| name.eq_ignore_ascii_case(text));
            if !known {
                return Err(Error::new(
                    comparison.value_position,
                    format!("{} is one of {}", comparison.field, names.join(", ")),
                ));
            }
            Ok(matches(&|name| name.eq_ignore_ascii_case(text)))
        }
        (Operator::Has, Value::Text(text)) => {
            let text = text.to_ascii_uppercase();
            Ok(matches(&|name| name.contains(&text)))
        }
        _ => Err(misused(comparison, "use = != or : with a name in quotes")),
    }
}

fn time(column: &'static str, comparison: &Comparison) -> Result<Condition, Error> {
    if let (Operator::Equal | Operator::Has, Value::Any) = (comparison.operator, &comparison.value)
    {
        return Ok(Condition::And(Vec::new()));
    }
    let (from, until) = time_range(comparison)?;
    let at = |operator, value| Condition::Number {
        column,
        operator,
        value,
    };
    let mut parts = Vec::new();
    if from > i64::MIN {
        parts.push(at(Operator::GreaterOrEqual, from));
    }
    if until < i64::MAX {
        parts.push(at(Operator::Less, until));
    }
    Ok(Condition::And(parts))
}

/// The elements of a repeated field are looked at in the document; what the index knows narrows the findings first.
fn contains(
    field: &str,
    position: usize,
    only: bool,
    inner: &Expression,
) -> Result<Condition, Error> {
    let path = match fields::find_repeated(field) {
        Some(path) => path,
        None => find(field, position)?.path,
    };
    let exact = Condition::Element {
        path: fields::document_path(&path),
        only,
        inner: Box::new(element(&path, inner)?),
    };
    if terms::ELEMENTS.contains(&path.as_str())
        && let Some(inner) = within(&path, inner)
    {
        return Ok(Condition::Within {
            field: path,
            only,
            inner: Box::new(inner),
            exact: Box::new(exact),
        });
    }
    if only {
        return Ok(exact);
    }
    match (hint(&path, inner), inner) {
        // One test of one element is the same as one test of any element.
        (Some(hint @ Condition::Term { .. }), Expression::Comparison(_)) => Ok(hint),
        (Some(hint), _) => Ok(Condition::And(vec![hint, exact])),
        (None, _) => Ok(exact),
    }
}

/// The condition on one element by the columns; `None` where it is about a member without column.
fn within(path: &str, inner: &Expression) -> Option<Condition> {
    let parts = |parts: &[Expression]| -> Option<Vec<_>> {
        parts.iter().map(|part| within(path, part)).collect()
    };
    Some(match inner {
        Expression::And(inner) => Condition::And(parts(inner)?),
        Expression::Or(inner) => Condition::Or(parts(inner)?),
        Expression::Not(inner) => Condition::Not(Box::new(within(path, inner)?)),
        Expression::Comparison(comparison) => {
            let whole = absolute(path, comparison);
            let found = fields::find(&whole.field).ok()?;
            if found.place != Place::Term || !terms::has_column(&found.path) {
                return None;
            }
            let term = |test| Condition::Term {
                field: found.path.clone(),
                test,
            };
            let condition = negate_if_not_equal(comparison, |comparison| {
                Ok(match test(found.kind, false, comparison)? {
                    Some(test) => term(test),
                    None => Condition::Not(Box::new(term(Test::Present))),
                })
            });
            condition.ok()?
        }
        Expression::Contains { .. } | Expression::InIpRange { .. } => return None,
    })
}

/// A comparison inside `contains` as one of the whole finding. `elem` is the element itself.
fn absolute(path: &str, comparison: &Comparison) -> Comparison {
    let field = match comparison.field.as_str() {
        "elem" => path.to_owned(),
        field => format!("{path}.{field}"),
    };
    Comparison {
        field,
        ..comparison.clone()
    }
}

/// What a finding must have so that one of its elements can fulfil `inner`, as far as the index can tell.
fn hint(path: &str, inner: &Expression) -> Option<Condition> {
    match inner {
        Expression::And(parts) => {
            let parts: Vec<_> = parts.iter().filter_map(|part| hint(path, part)).collect();
            (!parts.is_empty()).then_some(Condition::And(parts))
        }
        Expression::Or(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(|part| hint(path, part)).collect();
            parts.map(Condition::Or)
        }
        Expression::Comparison(comparison) => {
            let comparison = absolute(path, comparison);
            let found = fields::find(&comparison.field).ok()?;
            match compare(&found, &comparison) {
                Ok(condition @ Condition::Term { .. }) => Some(condition),
                _ => None,
            }
        }
        Expression::Not(_) | Expression::Contains { .. } | Expression::InIpRange { .. } => None,
    }
}

fn element(path: &str, inner: &Expression) -> Result<Condition, Error> {
    Ok(match inner {
        Expression::And(parts) => Condition::And(all(parts, |part| element(path, part))?),
        Expression::Or(parts) => Condition::Or(all(parts, |part| element(path, part))?),
        Expression::Not(inner) => Condition::Not(Box::new(element(path, inner)?)),
        Expression::Comparison(comparison) => {
            let whole = absolute(path, comparison);
            let kind = match fields::find(&whole.field) {
                Ok(found) => found.kind,
                // Elements may have members that have no entry of their own.
                Err(_) if fields::find(path).is_ok() => Kind::Open,
                Err(_) => {
                    return Err(Error::new(
                        comparison.position,
                        format!("elements of {path} have no field {:?}", comparison.field),
                    ));
                }
            };
            let keys = match comparison.field.as_str() {
                "elem" => Vec::new(),
                field => field.split('.').map(fields::camel_case).collect(),
            };
            negate_if_not_equal(comparison, |comparison| {
                let document = |test| Condition::Document {
                    path: keys.clone(),
                    test,
                };
                let unset = || Condition::Not(Box::new(document(Test::Present)));
                Ok(match test(kind, false, comparison)? {
                    // JSON leaves 0 out.
                    Some(test) if kind == Kind::Number && test.passes_zero() => {
                        Condition::Or(vec![document(test), unset()])
                    }
                    Some(test) => document(test),
                    None => unset(),
                })
            })?
        }
        Expression::Contains {
            field, only, inner, ..
        } => Condition::Element {
            path: field.split('.').map(fields::camel_case).collect(),
            only: *only,
            inner: Box::new(element(&format!("{path}.{field}"), inner)?),
        },
        Expression::InIpRange { position, .. } => {
            return Err(Error::new(
                *position,
                "inIpRange does not stand inside contains",
            ));
        }
    })
}

/// First and last address of a network, in the form in which addresses are indexed.
fn range(network: &str) -> Option<(String, String)> {
    let (address, length) = network.split_once('/').unwrap_or((network, ""));
    let address: IpAddr = address.parse().ok()?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        "" => width,
        length => length.parse().ok().filter(|length| *length <= width)?,
    };
    let address = u128::from(to_v6(address));
    let host = (1_u128.checked_shl(width - length)).map_or(u128::MAX, |size| size - 1);
    Some((
        format!("{:032x}", address & !host),
        format!("{:032x}", address | host),
    ))
}

pub(crate) fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
