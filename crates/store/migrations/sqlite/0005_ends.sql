-- What ends with something else, and what was given up.

-- The token that a login link was made with, or that opened a session: when it ends, they end.
ALTER TABLE credential ADD COLUMN token TEXT;
-- Of those made before nobody knows it. Whoever had one signs in again.
DELETE FROM credential WHERE kind <> 'token';
CREATE INDEX credential_by_token ON credential (token) WHERE token IS NOT NULL;

-- Since when no configuration has the sink; NULL while one has.
ALTER TABLE sink ADD COLUMN unconfigured INTEGER;
-- Notifications given up because the receiver refused them, and its last reason.
ALTER TABLE sink ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN refusal TEXT NOT NULL DEFAULT '';

-- What was done to one thing.
CREATE INDEX audit_by_target ON audit (target, id);
-- Refused logins, of which a limited number is kept.
CREATE INDEX audit_refused ON audit (time) WHERE action = 'refuse login';
