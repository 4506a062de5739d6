"""The questions that are asked of the tables, as SQL; `database.py` asks, `schema.sql` draws the tables."""

from momentum_push.message.ids import SEQUENCE_BITS

__all__ = ["HOLDING", "LANE", "OVERVIEW", "PAGE_LATER_DUE", "PAGE_SAME_DUE", "READ", "RECOUNT", "STRAY_MARKS"]

READ = """
    SELECT number, binding_group, binding, domain, lane, due, attempts, first_sequence, last_sequence,
           oldest, count, CAST(remaining AS INTEGER), CAST(progress AS BLOB), CAST(body AS BLOB),
           coalesce((SELECT CAST(bitmap AS BLOB) FROM sent WHERE sent.number = lists.number), x'')
    FROM lists JOIN queues ON queues.id = lists.queue
"""
LANE = f"""{READ}
    WHERE queue = (SELECT id FROM queues WHERE binding_group = ? AND binding = ? AND domain = ?) AND lane = ?
"""
# Two statements for (due, number) > (?, ?): for the row value SQLite would read through all lists of one
# due time, and a campaign is thousands of them.
PAGE_SAME_DUE = f"{LANE} AND due = ? AND number > ? ORDER BY number"
PAGE_LATER_DUE = f"{LANE} AND due > ? ORDER BY due, number"
HOLDING = f"""
    WITH spans (span) AS (VALUES {",".join(f"({span})" for span in range(SEQUENCE_BITS + 1))})
    {READ}
    WHERE number IN (
        SELECT number FROM spans CROSS JOIN lists USING (span)
        WHERE first_sequence BETWEEN ?1 - (1 << span) AND ?1 AND last_sequence >= ?1
    )
"""
STRAY_MARKS = "SELECT number FROM sent WHERE number NOT IN (SELECT number FROM lists) ORDER BY number"
OVERVIEW = """
    SELECT binding_group, binding, domain, lane, lists, messages,
           (SELECT min(oldest) FROM lists WHERE queue = lanes.queue AND lane = lanes.lane),
           (SELECT min(due) FROM lists WHERE queue = lanes.queue AND lane = lanes.lane)
    FROM lanes JOIN queues ON queues.id = lanes.queue
    WHERE lists > 0 ORDER BY binding_group, binding, domain, lane DESC
"""
RECOUNT = """
    SELECT binding_group, binding, domain, lane, coalesce(lanes.lists, 0), coalesce(lanes.messages, 0),
           coalesce(seen.lists, 0), coalesce(seen.messages, 0)
    FROM (SELECT queue, lane FROM lanes UNION SELECT queue, lane FROM lists)
    LEFT JOIN lanes USING (queue, lane)
    LEFT JOIN (SELECT queue, lane, count(*) AS lists, sum(CAST(remaining AS INTEGER)) AS messages
               FROM lists GROUP BY queue, lane) AS seen USING (queue, lane)
    LEFT JOIN queues ON queues.id = queue
"""
