-- A comparison of numbers finds the values it means without a look at each value of the field.
CREATE INDEX term_number ON term (field, number) WHERE number IS NOT NULL;
