//! Findings by the name of a folder or project above their resource.

use rusqlite::params;

use crate::name::FindingName;
use crate::select::term_id;
use crate::{Error, Store, chunk};

impl Store {
    /// The stored name of a finding that is named by the scope it is stored under, or by a folder or project that its
    /// resource is in.
    pub fn resolve(&self, name: &FindingName) -> Result<Option<String>, Error> {
        let parent = &name.parent;
        let place = format!("/sources/{}/locations/{}", parent.source, parent.location);
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT f.id, t.value FROM finding f JOIN term t ON t.id = f.parent_id \
                 WHERE f.key = $1 AND (t.value = $2 OR substr(t.value, -length($3)) = $3) \
                 ORDER BY t.value = $2 DESC",
            )?;
            let mut rows = statement.query(params![name.key, parent.to_string(), place])?;
            while let Some(row) = rows.next()? {
                let (id, own): (i64, String) = (row.get(0)?, row.get(1)?);
                if own != parent.to_string() {
                    let Some(scope) = term_id(db, "scope", &parent.scope)? else {
                        continue;
                    };
                    let Some(batch) = chunk::load_one(db, id)? else {
                        continue;
                    };
                    if !batch.all_terms(db)?.contains(&scope) {
                        continue;
                    }
                }
                return Ok(Some(format!("{own}/findings/{}", name.key)));
            }
            Ok(None)
        })
    }
}
