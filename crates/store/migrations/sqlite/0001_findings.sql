-- Findings and their index. Times are nanoseconds since the epoch.

-- Every distinct value of every indexed field, once: a search for text looks at distinct values, not at findings.
CREATE TABLE term (
    id     INTEGER PRIMARY KEY,
    field  TEXT NOT NULL,
    value  TEXT NOT NULL,
    -- The value as a number, where it is one.
    number REAL,
    UNIQUE (field, value)
);

-- What is filtered and sorted by most, narrow, so that a test of a row is one page read. The ids of terms are not foreign
-- keys: checking them for each finding would cost more than writing it.
CREATE TABLE finding (
    id            INTEGER PRIMARY KEY,
    -- The last segment of the name; the rest is the parent.
    key           TEXT NOT NULL,
    parent_id     INTEGER NOT NULL,
    category_id   INTEGER NOT NULL,
    resource_id   INTEGER NOT NULL,
    state         INTEGER NOT NULL,
    severity      INTEGER NOT NULL,
    mute          INTEGER NOT NULL,
    class         INTEGER NOT NULL,
    event_time    INTEGER NOT NULL,
    create_time   INTEGER NOT NULL,
    occurrences   INTEGER NOT NULL,
    -- 1 when a user decided the state: a repeat leaves it alone.
    state_by_user INTEGER NOT NULL DEFAULT 0,
    UNIQUE (key, parent_id)
);

-- The whole finding and its resource, as JSON. Always current.
CREATE TABLE document (
    finding_id INTEGER PRIMARY KEY REFERENCES finding (id) ON DELETE CASCADE,
    body       TEXT NOT NULL
);

-- The findings of each term, by time. Term 0 lists all findings.
CREATE TABLE posting (
    term_id    INTEGER NOT NULL,
    event_time INTEGER NOT NULL,
    finding_id INTEGER NOT NULL,
    PRIMARY KEY (term_id, event_time, finding_id)
) WITHOUT ROWID;

-- The terms of each finding that it can be grouped by: the way back from `posting`. Fields by number, which never change.
CREATE TABLE grouping (
    finding_id INTEGER NOT NULL,
    field      INTEGER NOT NULL,
    term_id    INTEGER NOT NULL,
    PRIMARY KEY (finding_id, field, term_id)
) WITHOUT ROWID;

-- How many findings each facet term has, by span (0 all time, 1 day, 2 hour; hours only for term 0, which counts all, and
-- for categories) and by what is filtered by most.
CREATE TABLE tally (
    term_id   INTEGER NOT NULL,
    span      INTEGER NOT NULL,
    start     INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    severity  INTEGER NOT NULL,
    state     INTEGER NOT NULL,
    mute      INTEGER NOT NULL,
    class     INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (term_id, span, start, parent_id, severity, state, mute, class)
) WITHOUT ROWID;

-- Each run of the agent, so that a gap in watching is known.
CREATE TABLE run (
    id        INTEGER PRIMARY KEY,
    began     INTEGER NOT NULL,
    heartbeat INTEGER NOT NULL,
    ended     INTEGER
);
