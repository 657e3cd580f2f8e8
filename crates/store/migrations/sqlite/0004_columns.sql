-- Findings are selected by columns instead of postings: the values of one field of 4,096 findings lie together, so that a
-- new finding costs a few rows and any filter reads a few hundred. Filled from the documents by the program.

DROP TABLE posting;
DROP TABLE grouping;
DROP TABLE tally;

-- Findings whose values are not in the columns yet, or no longer as the columns have them. Short; looked at by each query.
CREATE TABLE fresh (
    finding_id INTEGER PRIMARY KEY,
    -- Its values; NULL for a finding that was removed.
    body       BLOB
);

-- Spans of 4,096 finding ids.
CREATE TABLE chunk (
    id      INTEGER PRIMARY KEY,
    -- Different whenever a piece of it is: of all chunks there ever were, no two have the same.
    version INTEGER NOT NULL,
    -- Event times of the oldest and the newest finding of it.
    oldest  INTEGER NOT NULL,
    newest  INTEGER NOT NULL,
    -- Which of the ids are findings: a bit each.
    members BLOB NOT NULL
);

-- One field of one chunk. The id is 256 times the chunk's and the number of the field.
CREATE TABLE piece (
    id   INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

-- How often columns were written: the version of the chunks written last.
CREATE TABLE fold (count INTEGER NOT NULL);
INSERT INTO fold VALUES (0);
