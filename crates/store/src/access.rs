//! Tokens, login links and sessions. Only hashes of their secrets are kept.

use model::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use serde_json::{Value, json};

use crate::{Change, Error, Store, audit, ns, timestamp};

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
    /// Of a login link and a session, the id of the token that it stands for and ends with.
    pub token: Option<String>,
}

const COLUMNS: &str = "id, kind, name, role, hash, created, expires, ended, token";

impl Store {
    /// Keeps a new credential. A token is noted in the audit log with it. Fails with [`Error::Exists`] when a live token has its
    /// name, and with [`Error::NotFound`] when the token that it stands for is not valid any more.
    pub fn add_credential(&self, new: &Credential, change: Change<'_>) -> Result<(), Error> {
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
            if let Some(token) = &new.token {
                let is_live = db.query_row(
                    "SELECT EXISTS (SELECT 1 FROM credential WHERE kind = 'token' AND ended IS NULL AND id = $1)",
                    [token],
                    |row| row.get::<_, bool>(0),
                )?;
                if !is_live {
                    return Err(Error::NotFound(format!("valid token {token}")));
                }
            }
            // What has been over for long is of no use any more; the audit log has what it did.
            db.execute(
                "DELETE FROM credential WHERE kind <> 'token' AND min(ifnull(ended, expires), expires) < $1",
                [ns(new.created) - 24 * 3_600_000_000_000],
            )?;
            db.execute(
                "INSERT INTO credential (id, kind, name, role, hash, created, expires, ended, token) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                params![
                    new.id,
                    new.kind.as_str(),
                    new.name,
                    new.role,
                    new.hash,
                    ns(new.created),
                    new.expires.map(ns),
                    new.ended.map(ns),
                    new.token,
                ],
            )?;
            if new.kind == CredentialKind::Token {
                let detail = json!({"role": new.role});
                audit::note(db, change, "create token", &new.name, &detail)?;
            }
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

    /// Ends a token that is live, with every login link and session that stands for it. False when it was not live.
    pub fn revoke_token(&self, id: &str, change: Change<'_>) -> Result<bool, Error> {
        self.database.write(|db| {
            let name: Option<String> = db
                .query_row(
                    "UPDATE credential SET ended = $1 WHERE id = $2 AND kind = 'token' AND ended IS NULL RETURNING name",
                    params![ns(change.now), id],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(name) = name else {
                return Ok(false);
            };
            db.execute(
                "UPDATE credential SET ended = $1 WHERE token = $2 AND ended IS NULL",
                params![ns(change.now), id],
            )?;
            audit::note(db, change, "revoke token", &name, &Value::Null)?;
            Ok(true)
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
                "UPDATE credential SET ended = $1 WHERE id = $2 AND kind = $3 AND ended IS NULL",
                params![ns(now), id, kind.as_str()],
            )?;
            Ok(ended > 0)
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
        token: row.get(8)?,
    })
}
