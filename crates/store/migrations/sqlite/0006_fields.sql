-- The columns hold more fields, and of a finding with very many values others than before. Filled from the documents by the
-- program.
DELETE FROM fresh;
DELETE FROM chunk;
DELETE FROM piece;
