-- Columns hold process ids and the like themselves, in place of the number of a value. Filled from the documents by the program.

DELETE FROM fresh;
DELETE FROM chunk;
DELETE FROM piece;
