//! Cuts what engines and containers say to the project's limits.

use std::collections::BTreeMap;

use model::limits::{LABELS_MAX, NAME_BYTES_MAX};
use serde::{Deserialize, Deserializer};

/// `text`, cut to [`NAME_BYTES_MAX`] at a character.
pub(super) fn name(text: &str) -> String {
    text.get(..text.floor_char_boundary(NAME_BYTES_MAX))
        .unwrap_or_default()
        .to_owned()
}

/// The first [`LABELS_MAX`] labels by name, each cut.
pub(super) fn labels<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    labels
        .into_iter()
        .take(LABELS_MAX)
        .map(|(key, value)| (name(key), name(value)))
        .collect()
}

/// For serde: `null` reads as the default, since Go writes an absent list or map so.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
