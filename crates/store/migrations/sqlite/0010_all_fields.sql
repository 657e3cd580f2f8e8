-- Columns hold every field, and elements of lists as a whole. Filled from the documents by the program.

DELETE FROM fresh;
DELETE FROM chunk;
DELETE FROM piece;
