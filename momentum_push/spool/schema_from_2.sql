-- Makes format 3 of format 2; schema.sql says what is new for what reason. Nothing that is there is touched.

CREATE TABLE keys (
    id       INTEGER PRIMARY KEY,
    name     BLOB NOT NULL,
    part     INTEGER NOT NULL,
    body     BLOB NOT NULL,
    created  REAL NOT NULL,
    first    INTEGER NOT NULL,
    results  INTEGER NOT NULL,
    refusals BLOB NOT NULL,
    UNIQUE (name, part)
);
