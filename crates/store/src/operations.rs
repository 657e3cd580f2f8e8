//! Operations across processes and restarts.

use std::fs::{self, File};
use std::path::PathBuf;

use crate::database::lock_file;
use crate::{Error, Operation, Store, resource};

/// Shows other processes that somebody works on an operation, until dropped or until the process ends in whatever way.
#[derive(Debug)]
pub struct OperationLock {
    _file: File,
    path: PathBuf,
}

impl Store {
    /// Operations that have not ended, under any parent.
    pub fn unfinished_operations(&self) -> Result<Vec<Operation>, Error> {
        let operations: Vec<Operation> = self.database.read(resource::all)?;
        Ok(operations
            .into_iter()
            .filter(|operation| !operation.done)
            .collect())
    }

    /// Takes an operation for working on it. `None` while another works on it.
    pub fn lock_operation(&self, name: &str) -> Result<Option<OperationLock>, Error> {
        let id = name.rsplit('/').next().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::invalid("operation", format!("{name:?} is no name")));
        }
        let path = self
            .database
            .directory()
            .join(format!("operation-{id}.lock"));
        let file = lock_file(&path)?;
        Ok(file.map(|file| OperationLock { _file: file, path }))
    }
}

impl Drop for OperationLock {
    fn drop(&mut self) {
        // A file that stays is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}
