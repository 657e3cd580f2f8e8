//! Findings by the name of a folder or project above their resource.

use rusqlite::{Connection, params};

use crate::name::FindingName;
use crate::select::term_id;
use crate::{Error, Store, chunk};

impl Store {
    /// The stored name of a finding that is named by the scope it is stored under, or by a folder or project that its
    /// resource is in.
    pub fn resolve(&self, name: &FindingName) -> Result<Option<String>, Error> {
        let found = self.database.read(|db| find(db, name))?;
        Ok(found.map(|(_, parent)| format!("{parent}/findings/{}", name.key)))
    }
}

/// Id and stored parent of the finding that is meant.
pub(crate) fn find(db: &Connection, name: &FindingName) -> Result<Option<(i64, String)>, Error> {
    let parent = name.parent.to_string();
    let place = format!(
        "/sources/{}/locations/{}",
        name.parent.source, name.parent.location
    );
    let mut statement = db.prepare_cached(
        "SELECT f.id, t.value FROM finding f JOIN term t ON t.id = f.parent_id \
         WHERE f.key = $1 AND (t.value = $2 OR substr(t.value, -length($3)) = $3) \
         ORDER BY t.value = $2 DESC",
    )?;
    let mut rows = statement.query(params![name.key, parent, place])?;
    while let Some(row) = rows.next()? {
        let (id, own): (i64, String) = (row.get(0)?, row.get(1)?);
        if own != parent {
            let Some(scope) = term_id(db, "scope", &name.parent.scope)? else {
                continue;
            };
            let Some(batch) = chunk::load_one(db, id)? else {
                continue;
            };
            if !batch.all_terms(db)?.contains(&scope) {
                continue;
            }
        }
        return Ok(Some((id, own)));
    }
    Ok(None)
}
