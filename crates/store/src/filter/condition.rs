//! Tree to condition: fields looked up, values typed, names checked. Still without a database.

use std::net::{IpAddr, Ipv6Addr};

use super::test::{Test, misused, test, time_range};
use super::{Comparison, Error, Expression, Operator, Value};
use crate::column::Ids;
use crate::fields::{self, Found, Kind, Place};
use crate::name::{FindingName, SourceName};
use crate::{layout, terms};

/// What a finding must fulfil.
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
    /// The finding itself, by a name that may be that of a folder or project above it.
    Name(FindingName),
    /// What is under this source, or under the folder or project.
    Parent(SourceName),
    /// One of the finding's terms of this field passes.
    Term { field: String, test: Test },
    /// One of the finding's terms of this field fulfils this: JSON in fields of elements, single values in others.
    Elements { field: String, inner: Element },
    /// One of the finding's terms of this field has one of these ids. Made from `Term` and `Elements` once the database has
    /// been asked.
    Ids { field: String, ids: Ids },
    /// The finding has a term of this field other than this one.
    Any { field: String, except: Option<u32> },
    /// One of these findings. Made from `Name`.
    Rows(Vec<i64>),
    /// One of the elements that are told apart fulfils the inner condition, which is made of terms.
    Within {
        field: String,
        inner: Box<Condition>,
    },
}

/// What a value in JSON must fulfil.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Element {
    /// All; everything when empty.
    And(Vec<Element>),
    /// At least one.
    Or(Vec<Element>),
    /// Not.
    Not(Box<Element>),
    /// One of the values at this path within it passes; the value itself, where the path is empty.
    Member { path: Vec<String>, test: Test },
    /// One of the values at this path fulfils the inner condition, whose paths begin there.
    Contains {
        path: Vec<String>,
        inner: Box<Element>,
    },
}

impl Element {
    /// Whether a number fulfils it, of which nothing is a member.
    pub(crate) fn passes(&self, number: u32) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.passes(number)),
            Self::Or(parts) => parts.iter().any(|part| part.passes(number)),
            Self::Not(inner) => !inner.passes(number),
            Self::Member { path, test } => path.is_empty() && test.passes(number),
            Self::Contains { path, inner } => path.is_empty() && inner.passes(number),
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
        } => {
            let path = match fields::find_repeated(field) {
                Some(path) => path,
                None => find(field, *position)?.path,
            };
            contains(&path, None, *only, inner)?
        }
        Expression::InIpRange {
            field,
            position,
            network,
        } => {
            let found = find(field, *position)?;
            if !layout::ADDRESSES.contains(&found.path.as_str()) {
                return Err(Error::new(
                    *position,
                    format!("inIpRange works on {}", layout::ADDRESSES.join(", ")),
                ));
            }
            let (first, last) = range(network).ok_or_else(|| {
                Error::new(
                    *position,
                    format!("{network:?} is not a network such as 10.0.0.0/8"),
                )
            })?;
            Condition::Term {
                field: format!("{}{}", found.path, layout::ADDRESS_SUFFIX),
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
    if fields::is_unfiltered(field) {
        let message = format!("{field:?} is there to be read: findings are not filtered by it");
        return Err(Error::new(position, message));
    }
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
        (Place::Name(end), _) => name(end, comparison),
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
        (Place::TermColumn(_) | Place::Term, _) => {
            if let ("parent", Operator::Equal, Value::Text(text)) =
                (found.path.as_str(), operator, value)
                && let Ok(parent) = SourceName::parse(text)
            {
                return Ok(Condition::Parent(parent));
            }
            let condition = terms_that_pass(found, comparison)?;
            // Fields to group by have a term for no value.
            let grouped = layout::GROUPED.contains(&found.path.as_str());
            let term = |test| Condition::Term {
                field: found.path.clone(),
                test,
            };
            let none = || term(Test::Equal(String::new()));
            Ok(match condition {
                condition if condition == term(Test::Present) && grouped => not(none()),
                condition if condition == not(term(Test::Present)) && grouped => none(),
                condition => condition,
            })
        }
    }
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

/// The finding, or one element of a list, has a term of the field that passes.
fn terms_that_pass(found: &Found, comparison: &Comparison) -> Result<Condition, Error> {
    let fold = found.path.starts_with("security_marks.");
    let term = |field: &str, test| Condition::Term {
        field: field.to_owned(),
        test,
    };
    let any = |test: Test| match test {
        // There may be an object.
        Test::Present | Test::Has(_) if found.kind == Kind::Open && !fold => Condition::Or(vec![
            term(&element_field(&found.path), test.clone()),
            term(&found.path, test),
        ]),
        test => term(&found.path, test),
    };
    Ok(match test(found.kind, fold, comparison)? {
        Some(test) => any(test),
        None => not(any(Test::Present)),
    })
}

fn element_field(path: &str) -> String {
    format!("{path}{}", layout::ELEMENT_SUFFIX)
}

/// A name is known by its last segment and what that finding is under. Every finding has one.
fn name(end: &str, comparison: &Comparison) -> Result<Condition, Error> {
    match (comparison.operator, &comparison.value) {
        (Operator::Equal | Operator::Has, Value::Any) => Ok(Condition::And(Vec::new())),
        (Operator::Equal, Value::Text(text)) if text.is_empty() => Ok(Condition::Or(Vec::new())),
        (Operator::Equal, Value::Text(text)) => {
            let name = FindingName::parse(text.strip_suffix(end).unwrap_or_default())
                .map_err(|error| Error::new(comparison.value_position, error.to_string()))?;
            Ok(Condition::Name(name))
        }
        _ => Err(misused(
            comparison,
            &format!("{} is compared by = with a text", comparison.field),
        )),
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
    let at = |operator, value| Condition::Number {
        column,
        operator,
        value,
    };
    // 0 stands for no time.
    match (comparison.operator, &comparison.value) {
        (Operator::Equal | Operator::Has, Value::Any) => return Ok(at(Operator::Greater, 0)),
        (Operator::Equal, Value::Text(text)) if text.is_empty() => {
            return Ok(at(Operator::Equal, 0));
        }
        _ => {}
    }
    let (from, until) = time_range(comparison)?;
    let mut parts = vec![at(Operator::GreaterOrEqual, from.max(1))];
    if until < i64::MAX {
        parts.push(at(Operator::Less, until));
    }
    Ok(Condition::And(parts))
}

/// One of the values at a path fulfils the inner filter, whose fields begin there. `within`: the list of which this is about
/// one element.
fn contains(
    path: &str,
    within: Option<&str>,
    only: bool,
    inner: &Expression,
) -> Result<Condition, Error> {
    let any = |inner: &Expression| any_of(path, within, inner);
    if only {
        let another = Expression::Not(Box::new(inner.clone()));
        return Ok(Condition::And(vec![any(&EVERYTHING)?, not(any(&another)?)]));
    }
    any(inner)
}

const EVERYTHING: Expression = Expression::And(Vec::new());

fn any_of(path: &str, within: Option<&str>, inner: &Expression) -> Result<Condition, Error> {
    let elements = |field: String| -> Result<Condition, Error> {
        let inner = element(path, inner)?;
        Ok(Condition::Elements { field, inner })
    };
    if layout::ELEMENTS.contains(&path) {
        return Ok(Condition::Or(vec![
            Condition::Within {
                field: path.to_owned(),
                inner: Box::new(members(path, Some(path), inner)?),
            },
            // Those that are not told apart.
            elements(element_field(path))?,
        ]));
    }
    if layout::LISTS.contains(&path) {
        return elements(element_field(path));
    }
    let message = fields::find_repeated(path).is_some();
    match fields::find(path) {
        Ok(found) if found.kind == Kind::Open && !message => Ok(Condition::Or(vec![
            elements(element_field(path))?,
            elements(found.path)?,
        ])),
        Ok(Found {
            place: Place::Term | Place::TermColumn(_),
            path,
            ..
        }) if !message => elements(path),
        // Of what there is one of, the members are those of the finding or of the element it is in.
        _ => match list_above(path).filter(|list| Some(*list) != within) {
            Some(list) => {
                let rest = path.get(list.len() + 1..).unwrap_or_default();
                let inner = Expression::Contains {
                    field: rest.to_owned(),
                    position: 0,
                    only: false,
                    inner: Box::new(inner.clone()),
                };
                any_of(list, within, &inner)
            }
            None => Ok(Condition::And(vec![
                present(path),
                members(path, within, inner)?,
            ])),
        },
    }
}

/// The nearest list that a path leads through.
fn list_above(path: &str) -> Option<&'static str> {
    let lists = layout::ELEMENTS.iter().chain(layout::LISTS).copied();
    lists
        .filter(|list| {
            path.strip_prefix(list)
                .is_some_and(|rest| rest.starts_with('.'))
        })
        .max_by_key(|list| list.len())
}

/// A member of the message at this path is there.
fn present(path: &str) -> Condition {
    let is_below = |field: &&fields::Field| {
        field
            .path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.') && !rest.ends_with('.'))
    };
    let members: Vec<_> = fields::FIELDS
        .iter()
        .filter(is_below)
        .filter(|field| matches!(field.place, Place::Term | Place::TermColumn(_)))
        .map(|field| Condition::Term {
            field: field.path.to_owned(),
            test: Test::Present,
        })
        .collect();
    // What has a member with a meaning of its own only in other columns is always there.
    match members.is_empty() {
        true => Condition::And(Vec::new()),
        false => Condition::Or(members),
    }
}

/// The condition on one element of a list, or on a part of the finding, by terms.
fn members(path: &str, within: Option<&str>, inner: &Expression) -> Result<Condition, Error> {
    let all = |parts: &[Expression]| all(parts, |part| members(path, within, part));
    Ok(match inner {
        Expression::And(parts) => Condition::And(all(parts)?),
        Expression::Or(parts) => Condition::Or(all(parts)?),
        Expression::Not(inner) => not(members(path, within, inner)?),
        Expression::Comparison(comparison) => {
            let whole = absolute(path, comparison);
            let found = fields::find(&whole.field).map_err(|_| no_member(path, comparison))?;
            negate_if_not_equal(&whole, |whole| match found.place {
                Place::Term | Place::TermColumn(_) => terms_that_pass(&found, whole),
                Place::Name(_) | Place::Column(_) => compare(&found, whole),
            })?
        }
        Expression::Contains {
            field, only, inner, ..
        } => contains(&format!("{path}.{field}"), within, *only, inner)?,
        Expression::InIpRange { position, .. } => return Err(no_range(*position)),
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

fn no_member(path: &str, comparison: &Comparison) -> Error {
    Error::new(
        comparison.position,
        format!("elements of {path} have no field {:?}", comparison.field),
    )
}

fn no_range(position: usize) -> Error {
    Error::new(position, "inIpRange does not stand inside contains")
}

/// The condition on the JSON of an element.
fn element(path: &str, inner: &Expression) -> Result<Element, Error> {
    let all = |parts: &[Expression]| -> Result<Vec<_>, Error> {
        parts.iter().map(|part| element(path, part)).collect()
    };
    let not = |inner| Element::Not(Box::new(inner));
    let keys = |field: &str| -> Vec<String> {
        let key = |key: &str| match terms::is_verbatim(path) {
            true => key.to_owned(),
            false => fields::camel_case(key),
        };
        field.split('.').map(key).collect()
    };
    Ok(match inner {
        Expression::And(parts) => Element::And(all(parts)?),
        Expression::Or(parts) => Element::Or(all(parts)?),
        Expression::Not(inner) => not(element(path, inner)?),
        Expression::Comparison(comparison) if comparison.operator == Operator::NotEqual => {
            let equal = Comparison {
                operator: Operator::Equal,
                ..comparison.clone()
            };
            not(element(path, &Expression::Comparison(equal))?)
        }
        Expression::Comparison(comparison) => {
            let whole = absolute(path, comparison);
            let kind = match fields::find(&whole.field) {
                Ok(found) => found.kind,
                // Elements may have members that have no entry of their own.
                Err(_) if fields::find(path).is_ok() => Kind::Open,
                Err(_) => return Err(no_member(path, comparison)),
            };
            let path = match comparison.field.as_str() {
                "elem" => Vec::new(),
                field => keys(field),
            };
            let member = |test| Element::Member {
                path: path.clone(),
                test,
            };
            match test(kind, false, comparison)? {
                Some(test) if kind == Kind::Number && test.passes(0) => or_left_out(&path, test),
                Some(test) => member(test),
                None => not(member(Test::Present)),
            }
        }
        Expression::Contains {
            field, only, inner, ..
        } => {
            let below = format!("{path}.{field}");
            let any = |inner: &Expression| -> Result<Element, Error> {
                Ok(Element::Contains {
                    path: keys(field),
                    inner: Box::new(element(&below, inner)?),
                })
            };
            if *only {
                let another = Expression::Not(inner.clone());
                Element::And(vec![any(&EVERYTHING)?, not(any(&another)?)])
            } else {
                any(inner)?
            }
        }
        Expression::InIpRange { position, .. } => return Err(no_range(*position)),
    })
}

/// A number passes, or is left out of an object that is there, as JSON does with 0.
fn or_left_out(path: &[String], test: Test) -> Element {
    let (above, number) = path.split_at(path.len().saturating_sub(1));
    let member = |test| Element::Member {
        path: number.to_vec(),
        test,
    };
    let passes = Element::Or(vec![
        member(test),
        Element::Not(Box::new(member(Test::Present))),
    ]);
    match above {
        [] => passes,
        above => Element::Contains {
            path: above.to_vec(),
            inner: Box::new(passes),
        },
    }
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
