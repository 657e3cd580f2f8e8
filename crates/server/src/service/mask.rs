//! Field masks as requests have them: paths in either spelling, resolved against the schema, and what of an answer they name.
//! Changes by a mask are made in the store ([`store::copy_path`]).

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::status::Status;

/// The JSON names of a path: `source_properties.Key` is `["sourceProperties", "Key"]`.
pub(super) fn resolve(
    message: &MessageDescriptor,
    mask: &'static str,
    path: &str,
) -> Result<Vec<String>, Status> {
    let unknown = || {
        Status::field(
            mask,
            format!("{mask}: {path:?} is no field of {}.", message.name()),
        )
    };
    let mut at = Some(message.clone());
    let mut names = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let message = at.take().ok_or_else(unknown)?;
        let (name, after) = rest.split_once('.').unwrap_or((rest, ""));
        if rest.ends_with('.') {
            return Err(unknown());
        }
        let field = message
            .get_field_by_name(name)
            .or_else(|| message.get_field_by_json_name(name))
            .ok_or_else(unknown)?;
        names.push(field.json_name().to_owned());
        rest = after;
        if field.is_map() && !rest.is_empty() {
            // All that follows is the key: keys may contain dots.
            names.push(rest.to_owned());
            break;
        }
        if let Kind::Message(inner) = field.kind()
            && !field.is_list()
            && !inner.full_name().starts_with("google.protobuf.")
        {
            at = Some(inner);
        }
    }
    if names.is_empty() {
        return Err(unknown());
    }
    Ok(names)
}

/// Only what the paths name; all of it when there are none.
pub(super) fn project(value: Value, paths: &[Vec<String>]) -> Value {
    if paths.is_empty() {
        return value;
    }
    let mut kept = Value::Object(Map::new());
    for path in paths {
        copy(&value, &mut kept, path);
    }
    kept
}

fn copy(from: &Value, to: &mut Value, path: &[String]) {
    let (Some((first, rest)), Value::Object(to)) = (path.split_first(), to) else {
        return;
    };
    let Some(value) = from.get(first) else {
        return;
    };
    if rest.is_empty() {
        to.insert(first.clone(), value.clone());
        return;
    }
    let slot = to
        .entry(first.clone())
        .or_insert_with(|| Value::Object(Map::new()));
    copy(value, slot, rest);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finding() -> MessageDescriptor {
        crate::schema::message("google.cloud.securitycenter.v2.Finding")
    }

    #[test]
    fn paths_resolve_in_both_spellings() {
        let path = |path| resolve(&finding(), "update_mask", path).map_err(|error| error.message);
        assert_eq!(path("event_time"), Ok(vec!["eventTime".into()]));
        assert_eq!(path("eventTime"), Ok(vec!["eventTime".into()]));
        assert_eq!(
            path("source_properties.My_Key.x"),
            Ok(vec!["sourceProperties".into(), "My_Key.x".into()])
        );
        assert_eq!(
            path("security_marks.marks.a"),
            Ok(vec!["securityMarks".into(), "marks".into(), "a".into()])
        );
        for wrong in [
            "",
            ".",
            "nope",
            "category.x",
            "processes.name",
            "event_time.seconds",
            "a..b",
            "mute.",
        ] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_projection_has_what_is_named_and_no_more() {
        let value = json!({"a": 1, "b": {"c": 2, "d": 3}});
        let paths = [vec!["b".to_owned(), "d".to_owned()], vec!["z".to_owned()]];
        assert_eq!(project(value, &paths), json!({"b": {"d": 3}}));
    }
}
