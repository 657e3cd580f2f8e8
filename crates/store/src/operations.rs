//! Operations across restarts.

use crate::{Error, Operation, Store, resource};

impl Store {
    /// Operations that have not ended, under any parent. After a restart nobody works on them.
    pub fn unfinished_operations(&self) -> Result<Vec<Operation>, Error> {
        let operations: Vec<Operation> = self.database.read(resource::all)?;
        Ok(operations
            .into_iter()
            .filter(|operation| !operation.done)
            .collect())
    }
}
