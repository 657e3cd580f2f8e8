//! From verb and path to method: the patterns of the method table, compiled once.

use std::sync::LazyLock;

use percent_encoding::percent_decode_str;

use crate::methods::{Http, METHODS, Method, NOT_SERVED};
use crate::status::{Code, Status};

/// Prefix of every path.
const VERSION: &str = "/v2/";

/// What `P` stands for in a pattern.
pub(super) const SCOPES: [&str; 3] = ["organizations/*", "folders/*", "projects/*"];

/// A pattern of the table, taken apart.
pub(super) struct Route {
    pub(super) method: &'static Method,
    pub(super) http: &'static Http,
    /// The field that the path sets, from the outermost message to it.
    pub(super) field: Vec<&'static str>,
    /// Segments that form the field's value; `*` matches any.
    pub(super) variable: Vec<&'static str>,
    /// Segments after it.
    pub(super) rest: Vec<&'static str>,
    /// What follows the colon of the last segment; empty when there is none.
    pub(super) custom: &'static str,
}

/// All routes, in the order of the table.
pub(super) static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let forms = METHODS
        .iter()
        .flat_map(|method| method.http.iter().map(move |http| (method, http)));
    forms
        .flat_map(|(method, http)| {
            SCOPES
                .into_iter()
                .filter_map(move |scope| route(method, http, scope))
        })
        .collect()
});

/// Takes a pattern apart for one scope. `None` when the pattern has no `P` and the scope is not the first.
fn route(method: &'static Method, http: &'static Http, scope: &'static str) -> Option<Route> {
    let (pattern, custom) = http.path.split_once("}:").map_or_else(
        || match http.path.rsplit_once(':') {
            Some((pattern, custom)) => (pattern, custom),
            None => (http.path, ""),
        },
        |(pattern, custom)| (pattern, custom),
    );
    let (field, pattern) = pattern.strip_prefix('{')?.split_once('=')?;
    let (variable, rest) = pattern.split_once('}').unwrap_or((pattern, ""));
    let scoped = variable.split('/').next() == Some("P");
    if !scoped && scope != SCOPES[0] {
        return None;
    }
    let mut segments = Vec::new();
    for segment in variable.split('/') {
        match segment {
            "P" => segments.extend(scope.split('/')),
            segment => segments.push(segment),
        }
    }
    Some(Route {
        method,
        http,
        field: field.split('.').collect(),
        variable: segments,
        rest: rest
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect(),
        custom,
    })
}

/// A route that fits, with the value that the path gives its field.
pub(super) struct Found {
    pub(super) route: &'static Route,
    pub(super) method: &'static Method,
    pub(super) value: String,
}

/// Finds the method for a request line.
pub(super) fn find(verb: &str, path: &str) -> Result<Found, Status> {
    let missing = || Status::new(Code::NotFound, "There is nothing at this address.");
    let mut segments = path
        .strip_prefix(VERSION)
        .ok_or_else(missing)?
        .split('/')
        .map(|segment| {
            let text = percent_decode_str(segment)
                .decode_utf8()
                .map_err(|_| Status::invalid("The address is not UTF-8."))?;
            // A slash that was hidden by encoding would make one segment pass for two.
            if text.is_empty() || text.contains('/') || text.chars().any(char::is_control) {
                return Err(missing());
            }
            Ok(text.into_owned())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut custom = String::new();
    if let Some(last) = segments.last_mut()
        && let Some(colon) = last.rfind(':')
    {
        custom = last.split_off(colon).split_off(1);
    }
    let fits = |pattern: &[&str], given: &[String]| {
        pattern.len() == given.len()
            && pattern
                .iter()
                .zip(given)
                .all(|(pattern, given)| *pattern == "*" || *pattern == given.as_str())
    };
    for route in ROUTES.iter() {
        if route.http.verb == verb
            && route.custom == custom
            && let Some((variable, rest)) = segments.split_at_checked(route.variable.len())
            && fits(&route.variable, variable)
            && fits(&route.rest, rest)
        {
            return Ok(Found {
                route,
                method: route.method,
                value: variable.join("/"),
            });
        }
    }
    if segments
        .iter()
        .any(|segment| NOT_SERVED.contains(&segment.as_str()))
    {
        return Err(Status::new(
            Code::Unimplemented,
            "Hullwatch does not offer this part of Security Command Center.",
        ));
    }
    Err(missing())
}
