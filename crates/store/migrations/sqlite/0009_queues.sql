-- How much waits for each sink.

ALTER TABLE sink ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
-- The oldest of a sink.
CREATE INDEX delivery_by_sink ON delivery (sink);
UPDATE sink SET (waiting, bytes) =
    (SELECT count(*), coalesce(sum(octet_length(body)), 0) FROM delivery d WHERE d.sink = sink.name);
CREATE TRIGGER delivery_added AFTER INSERT ON delivery BEGIN
    UPDATE sink SET waiting = waiting + 1, bytes = bytes + octet_length(new.body) WHERE name = new.sink;
END;
CREATE TRIGGER delivery_gone AFTER DELETE ON delivery BEGIN
    UPDATE sink SET waiting = waiting - 1, bytes = bytes - octet_length(old.body) WHERE name = old.sink;
END;
