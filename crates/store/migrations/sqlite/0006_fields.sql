-- What a user decided about the severity, and columns of more fields.

-- The detector's own severity where a user set another one: NULL where nobody did. A repeat leaves the user's alone for as
-- long as the detector says the same.
ALTER TABLE finding ADD COLUMN detected_severity INTEGER;

-- The columns hold more fields, and of a finding with very many values others than before. Filled from the documents by the
-- program.
DELETE FROM fresh;
DELETE FROM chunk;
DELETE FROM piece;
