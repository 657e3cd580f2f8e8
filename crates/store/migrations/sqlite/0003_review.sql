-- What people and the API add: configuration, changes, notifications, containers.

-- Sources, mute configs, notification configs and operations, each as the API's JSON.
CREATE TABLE resource (
    kind   TEXT NOT NULL,
    parent TEXT NOT NULL,
    name   TEXT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (kind, parent, name)
);

-- Who changed what, when.
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    time   INTEGER NOT NULL,
    who    TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
);

-- Where notifications go.
CREATE TABLE sink (
    name    TEXT PRIMARY KEY,
    filter  TEXT NOT NULL,
    -- Notifications given up because too many waited.
    dropped INTEGER NOT NULL DEFAULT 0
);

-- Notifications that wait for their sink.
CREATE TABLE delivery (
    id       INTEGER PRIMARY KEY,
    sink     TEXT NOT NULL,
    finding  TEXT NOT NULL,
    body     TEXT NOT NULL,
    created  INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try INTEGER NOT NULL,
    error    TEXT NOT NULL DEFAULT ''
);
CREATE INDEX delivery_by_finding ON delivery (sink, finding, id);
CREATE INDEX delivery_by_time ON delivery (sink, next_try, id);

-- Every container seen, and whether it is watched.
CREATE TABLE container (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    image      TEXT NOT NULL,
    engine     TEXT NOT NULL,
    sensor     TEXT NOT NULL,
    since      INTEGER NOT NULL,
    last_event INTEGER,
    last_test  INTEGER,
    ended      INTEGER,
    -- Why it is not watched; empty when it is.
    uncovered  TEXT NOT NULL
);
