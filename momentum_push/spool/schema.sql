-- The spool's database, format 3. database.py writes it, momentum-push spool reads it, and so may you.

-- format: of these tables.  salt: 74 bits, hexadecimal.  sequence: numbers below it may have been used.
-- created: epoch seconds.  probe: written to see whether the disk takes writes again.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE queues (
    id            INTEGER PRIMARY KEY,
    binding_group TEXT NOT NULL,
    binding       TEXT NOT NULL,
    domain        TEXT NOT NULL,
    UNIQUE (binding_group, binding, domain)
);

-- One row a list of messages. progress, a bit a message, stands before body: while its length stays the
-- same, SQLite rewrites the one page that it is on and leaves the pages of the body alone. remaining has
-- four digits for the same reason: a number that loses a byte would move the whole row.
CREATE TABLE lists (
    number         INTEGER PRIMARY KEY,
    queue          INTEGER NOT NULL,
    lane           INTEGER NOT NULL,
    due            REAL NOT NULL,       -- epoch seconds of the next attempt
    attempts       INTEGER NOT NULL,
    span           INTEGER NOT NULL,    -- bits of last_sequence - first_sequence
    first_sequence INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    oldest         REAL NOT NULL,       -- when its oldest message was received
    count          INTEGER NOT NULL,
    remaining      TEXT NOT NULL,
    progress       BLOB NOT NULL,
    body           BLOB NOT NULL        -- drawn in record.py
);

CREATE INDEX lists_due ON lists (queue, lane, due, number);
CREATE INDEX lists_oldest ON lists (queue, lane, oldest);
-- Lists of one span reach back at most 2^span, so a message is found in a short stretch of each span;
-- ranges of retried lists overlap and would otherwise have to be read through.
CREATE INDEX lists_span ON lists (span, first_sequence, last_sequence);

-- Who may have been sent, a bit a message as in progress, written before they are; only where
-- apn_unknown_outcome = "drop" wants it. A table of its own: an empty column that gets a value would move
-- its row with all of the body, and one that always has its room would be written with every list.
CREATE TABLE sent (
    number INTEGER PRIMARY KEY,         -- of a list that is there; list_removed sees to that
    bitmap BLOB NOT NULL
);

-- What each lane of each queue holds. Kept by the triggers, in the same transaction, never counted.
CREATE TABLE lanes (
    queue    INTEGER NOT NULL,
    lane     INTEGER NOT NULL,
    lists    INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (queue, lane)
) WITHOUT ROWID;

CREATE TRIGGER list_added AFTER INSERT ON lists BEGIN
    INSERT INTO lanes VALUES (new.queue, new.lane, 1, CAST(new.remaining AS INTEGER))
    ON CONFLICT (queue, lane) DO UPDATE
    SET lists = lists + 1, messages = messages + CAST(new.remaining AS INTEGER);
END;

CREATE TRIGGER list_marked AFTER UPDATE OF remaining ON lists BEGIN
    UPDATE lanes
    SET messages = messages + CAST(new.remaining AS INTEGER) - CAST(old.remaining AS INTEGER)
    WHERE queue = new.queue AND lane = new.lane;
END;

CREATE TRIGGER list_removed AFTER DELETE ON lists BEGIN
    UPDATE lanes
    SET lists = lists - 1, messages = messages - CAST(old.remaining AS INTEGER)
    WHERE queue = old.queue AND lane = old.lane;
    DELETE FROM sent WHERE number = old.number;
END;

-- Damaged lists, as they were found: nothing of them is sent, nothing of them is thrown away.
CREATE TABLE aside (
    number    INTEGER PRIMARY KEY,
    queue     INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    due       REAL NOT NULL,
    attempts  INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    remaining TEXT NOT NULL,
    progress  BLOB NOT NULL,
    body      BLOB NOT NULL,
    why       TEXT NOT NULL,
    sent      BLOB                      -- NULL: no marks
);

-- Receipts of injections that came with a key, each written in the transaction of its messages. name and
-- body are digests; part: 0, or the list of a stream; first: number of the first message that was
-- accepted; results: how many; refusals: drawn in message/keys.py, empty when there were none.
CREATE TABLE keys (
    id       INTEGER PRIMARY KEY,       -- in the order of their coming, so the oldest is the first
    name     BLOB NOT NULL,
    part     INTEGER NOT NULL,
    body     BLOB NOT NULL,
    created  REAL NOT NULL,             -- epoch seconds; a day later it is removed
    first    INTEGER NOT NULL,
    results  INTEGER NOT NULL,
    refusals BLOB NOT NULL,
    UNIQUE (name, part)
);
