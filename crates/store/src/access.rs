//! Credentials (hashes only) and the audit log.

use model::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use crate::{Error, Store, ns, timestamp};

/// What a credential is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A bearer token of the API.
    Token,
    /// A login link, good for one use.
    Login,
    /// A session of the web page.
    Session,
}

impl CredentialKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Login => "login",
            Self::Session => "session",
        }
    }
}

/// A credential without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Public part; finds the row.
    pub id: String,
    /// What it is for.
    pub kind: CredentialKind,
    /// Whose it is.
    pub name: String,
    /// `viewer`, `editor` or `admin`.
    pub role: String,
    /// SHA-256 of the secret part.
    pub hash: [u8; 32],
    /// When it was made.
    pub created: Timestamp,
    /// When it stops being valid by itself.
    pub expires: Option<Timestamp>,
    /// When it was revoked, used up or logged out.
    pub ended: Option<Timestamp>,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was asked for.
    pub time: Timestamp,
    /// Name of the credential.
    pub actor: String,
    /// Address the call came from; empty for the command line.
    pub peer: String,
    /// Method.
    pub action: String,
    /// Name of what it changes.
    pub target: String,
    /// `OK` or the name of the failure; `None` while under way, or when the process was killed meanwhile.
    pub outcome: Option<String>,
}

const COLUMNS: &str = "id, kind, name, role, hash, created, expires, ended";

impl Store {
    /// Keeps a new credential. Fails with [`Error::Exists`] when a live token has its name.
    pub fn add_credential(&self, new: &Credential) -> Result<(), Error> {
        self.database.write(|db| {
            let taken = new.kind == CredentialKind::Token
                && db.query_row(
                    "SELECT EXISTS (SELECT 1 FROM credential WHERE kind = 'token' AND ended IS NULL AND name = $1)",
                    [&new.name],
                    |row| row.get(0),
                )?;
            if taken {
                return Err(Error::Exists(format!("token {:?}", new.name)));
            }
            // What has been over for long is of no use any more; the audit log has what it did.
            db.execute(
                "DELETE FROM credential WHERE kind <> 'token' AND min(ifnull(ended, expires), expires) < $1",
                [ns(new.created) - 24 * 3_600_000_000_000],
            )?;
            db.execute(
                "INSERT INTO credential (id, kind, name, role, hash, created, expires, ended) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                params![
                    new.id,
                    new.kind.as_str(),
                    new.name,
                    new.role,
                    new.hash,
                    ns(new.created),
                    new.expires.map(ns),
                    new.ended.map(ns),
                ],
            )?;
            Ok(())
        })
    }

    /// The credential of this kind and id, valid or not.
    pub fn credential(&self, kind: CredentialKind, id: &str) -> Result<Option<Credential>, Error> {
        self.database.read(|db| {
            Ok(db
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM credential WHERE id = $1 AND kind = $2"
                ))?
                .query_row(params![id, kind.as_str()], |row| credential(row, kind))
                .optional()?)
        })
    }

    /// All credentials of a kind, the oldest first.
    pub fn credentials(&self, kind: CredentialKind) -> Result<Vec<Credential>, Error> {
        self.database.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM credential WHERE kind = $1 ORDER BY created, id"
            ))?;
            let rows = statement.query_map([kind.as_str()], |row| credential(row, kind))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Ends a credential that is live. False when it was not: of two callers at once, one gets true.
    pub fn end_credential(
        &self,
        kind: CredentialKind,
        id: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        self.database.write(|db| {
            let ended = db.execute(
                "UPDATE credential SET ended = $3 WHERE id = $1 AND kind = $2 AND ended IS NULL",
                params![id, kind.as_str(), ns(now)],
            )?;
            Ok(ended > 0)
        })
    }

    /// Writes a line of the audit log, before the change it is about. Returns the line's number.
    pub fn audit(&self, entry: &AuditEntry) -> Result<i64, Error> {
        self.database.write(|db| {
            Ok(db
                .prepare_cached(
                    "INSERT INTO audit (time, actor, peer, action, target, outcome) \
                     VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
                )?
                .query_row(
                    params![
                        ns(entry.time),
                        entry.actor,
                        entry.peer,
                        entry.action,
                        entry.target,
                        entry.outcome
                    ],
                    |row| row.get(0),
                )?)
        })
    }

    /// Notes how the change of a line ended.
    pub fn audit_outcome(&self, line: i64, outcome: &str) -> Result<(), Error> {
        self.database.write(|db| {
            db.prepare_cached("UPDATE audit SET outcome = $2 WHERE id = $1")?
                .execute(params![line, outcome])?;
            Ok(())
        })
    }

    /// The newest lines of the audit log, the newest first.
    pub fn audit_log(&self, lines_max: u32) -> Result<Vec<AuditEntry>, Error> {
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT time, actor, peer, action, target, outcome FROM audit ORDER BY id DESC LIMIT $1",
            )?;
            let rows = statement.query_map([lines_max], |row| {
                Ok(AuditEntry {
                    time: timestamp(row.get(0)?),
                    actor: row.get(1)?,
                    peer: row.get(2)?,
                    action: row.get(3)?,
                    target: row.get(4)?,
                    outcome: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn credential(row: &Row<'_>, kind: CredentialKind) -> rusqlite::Result<Credential> {
    Ok(Credential {
        id: row.get(0)?,
        kind,
        name: row.get(2)?,
        role: row.get(3)?,
        hash: row.get(4)?,
        created: timestamp(row.get(5)?),
        expires: row.get::<_, Option<i64>>(6)?.map(timestamp),
        ended: row.get::<_, Option<i64>>(7)?.map(timestamp),
    })
}
