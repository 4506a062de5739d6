-- Makes format 2 of format 1; schema.sql says what is new for what reason. No list is touched.

CREATE TABLE sent (
    number INTEGER PRIMARY KEY,
    bitmap BLOB NOT NULL
);

DROP TRIGGER list_removed;
CREATE TRIGGER list_removed AFTER DELETE ON lists BEGIN
    UPDATE lanes
    SET lists = lists - 1, messages = messages - CAST(old.remaining AS INTEGER)
    WHERE queue = old.queue AND lane = old.lane;
    DELETE FROM sent WHERE number = old.number;
END;

ALTER TABLE aside ADD COLUMN sent BLOB;
