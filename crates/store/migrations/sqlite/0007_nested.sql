-- Columns hold nested source properties too. Filled from the documents by the program.

DELETE FROM fresh;
DELETE FROM chunk;
DELETE FROM piece;
