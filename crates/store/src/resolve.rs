//! Findings by the name of a folder or project above their resource.

use rusqlite::{OptionalExtension, params};

use crate::name::FindingName;
use crate::{Error, Store};

impl Store {
    /// The stored name of a finding that is named by the scope it is stored under, or by a folder or project that its
    /// resource is in.
    pub fn resolve(&self, name: &FindingName) -> Result<Option<String>, Error> {
        let parent = &name.parent;
        let place = format!("/sources/{}/locations/{}", parent.source, parent.location);
        self.database.read(|db| {
            Ok(db
                .prepare_cached(
                    "SELECT t.value || '/findings/' || f.key FROM finding f JOIN term t ON t.id = f.parent_id \
                     WHERE f.key = $1 AND (t.value = $2 OR substr(t.value, -length($3)) = $3 AND EXISTS ( \
                     SELECT 1 FROM term s JOIN posting p ON p.term_id = s.id AND p.event_time = f.event_time \
                     AND p.finding_id = f.id WHERE s.field = 'scope' AND s.value = $4)) \
                     ORDER BY t.value = $2 DESC LIMIT 1",
                )?
                .query_row(
                    params![name.key, parent.to_string(), place, parent.scope],
                    |row| row.get(0),
                )
                .optional()?)
        })
    }
}
