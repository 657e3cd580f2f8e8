//! What can go wrong with the store, told apart as a caller must answer it.

use std::path::PathBuf;

use crate::filter;

/// Failure of a store operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state directory or database file cannot be made or reached.
    #[error("cannot open the store at {path}")]
    Open {
        /// Directory or file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A read-only store was asked for where there is none.
    #[error("there is no store at {path}: has the agent run with this state directory?")]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error(
        "the store has schema {found}, this version knows up to {known}: use a newer hullwatch"
    )]
    NewerSchema {
        /// Version in the file.
        found: i64,
        /// Newest version this program knows.
        known: i64,
    },
    /// Read-only access cannot migrate.
    #[error(
        "the store has schema {found}, this version needs {known}: start `hullwatch run` or `serve` once to upgrade it"
    )]
    OlderSchema {
        /// Version in the file.
        found: i64,
        /// Version needed.
        known: i64,
        /// To upgrade it every finding is read: ten minutes for a million.
        takes_long: bool,
    },
    /// The database refused.
    #[error("the database failed")]
    Sql(#[source] rusqlite::Error),
    /// A question took longer than a question may.
    #[error("the query takes too long: narrow it by time, severity, category or container")]
    TooSlow,
    /// A stored document is not what was written.
    #[error("a stored document is damaged")]
    Document(#[from] serde_json::Error),
    /// A stored column is not what was written.
    #[error("the store's index is damaged")]
    Damaged,
    /// The filter is wrong; tells where.
    #[error(transparent)]
    Filter(#[from] filter::Error),
    /// The caller gave something that is not allowed.
    #[error("{what}: {why}")]
    Invalid {
        /// The field or argument, as the caller named it.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// No such thing.
    #[error("{0} not found")]
    NotFound(String),
    /// A thing of that name exists.
    #[error("{0} exists already")]
    Exists(String),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Self::TooSlow,
            _ => Self::Sql(error),
        }
    }
}

impl Error {
    /// Whether the same write may succeed later: the disk is full or fails, or another process holds the lock.
    pub fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure,
        };
        let Self::Sql(error) = self else { return false };
        let code = error.sqlite_error_code();
        code.is_some_and(|code| {
            [
                CannotOpen,
                DatabaseBusy,
                DatabaseLocked,
                DiskFull,
                ReadOnly,
                SystemIoFailure,
            ]
            .contains(&code)
        })
    }

    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            why: why.into(),
        }
    }
}
