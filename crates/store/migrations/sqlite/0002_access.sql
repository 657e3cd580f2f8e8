-- Who may call the server. Times are nanoseconds since the epoch.

-- Tokens, one-time login links and sessions: each is a secret of which only the SHA-256 is here.
CREATE TABLE credential (
    id      TEXT PRIMARY KEY,
    -- token, login or session.
    kind    TEXT NOT NULL,
    -- Whose it is: shown in the audit log.
    name    TEXT NOT NULL,
    -- viewer, editor or admin.
    role    TEXT NOT NULL,
    hash    BLOB NOT NULL,
    created INTEGER NOT NULL,
    -- NULL for never.
    expires INTEGER,
    -- When it stopped being valid: revoked, used up, or logged out.
    ended   INTEGER
) WITHOUT ROWID;

-- Two live tokens never share a name, so that a name says which one is meant.
CREATE UNIQUE INDEX credential_token_name ON credential (name) WHERE kind = 'token' AND ended IS NULL;
