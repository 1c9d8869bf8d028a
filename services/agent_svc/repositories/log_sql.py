"""The statements of the run path. Each commit is one statement that first updates the conversation's row.

That update fences the writer (lease_epoch), hands out the sequence numbers (head_seq) and serializes all writers of a
conversation, so what hangs on it never waits for another lock in another order.
"""

from __future__ import annotations

from agent_svc.repositories.message_content import RUN_COLUMNS
from agent_svc.repositories.prepared import Prepared

LEASE_S = 6
# How long a dispatch that a sweep has taken is put off for the others.
PUT_OFF_S = 4
MAX_HISTORY_MESSAGES = 600

# The call's record in the audit log, in the same statement as its effect; for a call that leaves none `audit_id` is NULL.
AUDIT = """audit AS (
    INSERT INTO audit_outbox (id, organization_id, actor, on_behalf_of, action, resource, outcome, request_id, create_time)
    SELECT %(audit_id)s, %(organization)s, %(audit_actor)s, %(audit_on_behalf_of)s, %(audit_action)s, %(audit_resource)s,
        'OK', %(audit_request)s, %(now)s FROM conv WHERE %(audit_id)s IS NOT NULL
)"""

START = Prepared(
    "start",
    f"""
WITH conv AS (
    UPDATE conversations SET head_seq = head_seq + 2, message_seq = head_seq + 2, open_runs = open_runs + 1,
        update_time = %(now)s
    WHERE id = %(conversation)s AND organization_id = %(organization)s
        AND open_runs < %(most)s
        AND NOT EXISTS (SELECT FROM runs WHERE organization_id = %(organization)s
            AND conversation_id = %(conversation)s AND request_id = %(request)s::uuid)
    RETURNING head_seq, agent_id
), run AS (
    INSERT INTO runs (id, organization_id, conversation_id, agent_id, run_seq, state, user_subject, request_id,
        body_hash, input_preview, create_time)
    SELECT %(run)s, %(organization)s, %(conversation)s, agent_id, head_seq - 1, 1, %(user)s, %(request)s::uuid,
        %(hash)s, %(preview)s, %(now)s FROM conv
), message AS (
    INSERT INTO messages (conversation_id, seq, id, organization_id, run_id, run_seq, role, tokens, content, create_time)
    SELECT %(conversation)s, head_seq, %(message)s, %(organization)s, %(run)s, head_seq - 1, 1, %(tokens)s,
        %(content)s::json, %(now)s FROM conv
), event AS (
    INSERT INTO events (conversation_id, seq, organization_id, run_id, epoch, type, body)
    SELECT %(conversation)s, head_seq + step, %(organization)s, %(run)s, 0, type, body
    FROM conv, (VALUES (-1, %(queued_type)s, %(queued)s), (0, %(completed_type)s, %(completed)s)) AS new (step, type, body)
), dispatch AS (
    INSERT INTO dispatches (conversation_id, organization_id, due_time)
    SELECT %(conversation)s, %(organization)s, now() + %(due_in)s * interval '1 second' FROM conv
    ON CONFLICT (conversation_id) DO UPDATE SET due_time = LEAST(dispatches.due_time, EXCLUDED.due_time)
), counted AS (
    INSERT INTO run_counts (organization_id, user_subject, open_runs, ceiling)
    SELECT %(organization)s, who, 1, ceiling
    FROM conv, (VALUES (0, '', %(ceiling)s), (1, %(user)s, %(ceiling_of_user)s)) AS new (place, who, ceiling)
    WHERE place = 0 OR who <> '' ORDER BY place
    ON CONFLICT (organization_id, user_subject)
    DO UPDATE SET open_runs = run_counts.open_runs + 1, ceiling = EXCLUDED.ceiling
), {AUDIT}
SELECT head_seq, agent_id FROM conv
""",
)

# Hangs on `conv` and `run` of the statement that ends a run. Everybody counts the organization first, then the user.
COUNT_OUT = """counted AS (
    INSERT INTO run_counts (organization_id, user_subject, open_runs, ceiling)
    SELECT %(organization)s, who, -1, 0
    FROM conv, run, LATERAL (VALUES (0, ''), (1, run.user_subject)) AS gone (place, who)
    WHERE place = 0 OR who <> '' ORDER BY place
    ON CONFLICT (organization_id, user_subject) DO UPDATE SET open_runs = run_counts.open_runs - 1
)"""

# What is counted of an organization and of one of its users.
COUNTS = Prepared(
    "counts",
    """
SELECT user_subject, open_runs FROM run_counts
WHERE organization_id = %(organization)s AND user_subject IN ('', %(user)s) ORDER BY user_subject
""",
)

# Why a start changed nothing: no such conversation, the request id is taken, or it is busy or full.
KNOWN = Prepared(
    "known",
    """
SELECT open_runs FROM conversations WHERE id = %(conversation)s AND organization_id = %(organization)s
""",
)
EARLIER = Prepared(
    "earlier",
    f"""
SELECT {RUN_COLUMNS}, body_hash FROM runs WHERE organization_id = %(organization)s
    AND conversation_id = %(conversation)s AND request_id = %(request)s::uuid
""",
)

ACQUIRE = Prepared(
    "acquire",
    f"""
UPDATE conversations SET lease_epoch = lease_epoch + 1, lease_owner = %(owner)s,
    lease_expire_time = now() + interval '{LEASE_S} seconds'
WHERE id = %(conversation)s AND organization_id = %(organization)s AND open_runs > 0
    AND NOT waiting AND (lease_owner IS NULL OR lease_expire_time < now())
RETURNING lease_epoch;
""",
)

KEEP = Prepared(
    "keep",
    f"""
UPDATE conversations SET lease_expire_time = now() + interval '{LEASE_S} seconds'
WHERE id = %(conversation)s AND organization_id = %(organization)s AND lease_epoch = %(epoch)s
RETURNING lease_epoch;
""",
)

RUN_COLUMNS_OF_RUN = ", ".join(f"run.{column.strip()}" for column in RUN_COLUMNS.split(","))

# A fresh snapshot: this statement begins after the conversation's row is locked. `mine` says that the lease is. The scalar
# subqueries are evaluated once whatever the planner believes: a join here may read all runs for each run.
_TAKE_RUN = f"""
WITH run AS (
    UPDATE runs SET state = 2, claims = claims + 1, attempt = CASE WHEN claims = 0 THEN 1 ELSE attempt + 1 END,
        start_time = COALESCE(start_time, %(now)s), next_message_id = COALESCE(next_message_id, %(message)s)
    WHERE id = (
        SELECT waiting.id FROM runs AS waiting WHERE waiting.conversation_id = %(conversation)s
            AND waiting.run_seq >= (
                SELECT active_run_seq FROM conversations WHERE id = %(conversation)s AND {{mine}}
            )
            AND waiting.state IN (1, 2)
        ORDER BY waiting.run_seq LIMIT 1
    ) RETURNING runs.*
), conv AS (
    UPDATE conversations SET head_seq = head_seq + 1, active_run_seq = (SELECT run_seq FROM run)
    WHERE id = %(conversation)s AND EXISTS (SELECT FROM run) RETURNING head_seq, lease_epoch
), event AS (
    INSERT INTO events (conversation_id, seq, organization_id, run_id, epoch, type, body)
    SELECT %(conversation)s, conv.head_seq, %(organization)s, run.id, conv.lease_epoch, %(started_type)s, %(started)s
    FROM conv, run
)
SELECT {RUN_COLUMNS_OF_RUN}, run.user_subject, run.claims, run.attempt, run.next_message_id, conv.head_seq, conv.lease_epoch,
    COALESCE((SELECT agents.version FROM agents WHERE agents.id = run.agent_id), 0)
FROM run, conv;
"""

TAKE_AFTER_ACQUIRE = Prepared("take_after_acquire", _TAKE_RUN.format(mine="lease_owner = %(owner)s"))
TAKE_WHILE_HELD = Prepared("take_while_held", _TAKE_RUN.format(mine="lease_epoch = %(epoch)s"))

# What the newest summary stands for is not read: all of the runs before this one, and of this one what is older than context_seq,
# but for its user message. Scalar subqueries, so that a long conversation is read from its new end.
_CONTEXT_RUN_SEQ = "(SELECT context_run_seq FROM conversations WHERE id = %(conversation)s)"

HISTORY = Prepared(
    "history",
    f"""
SELECT seq, id, run_id, run_seq, role, content::text, create_time, newer FROM (
    SELECT *, sum(tokens) OVER (ORDER BY seq DESC) - tokens AS newer FROM (
        SELECT * FROM messages WHERE conversation_id = %(conversation)s AND seq > GREATEST(%(after)s, {_CONTEXT_RUN_SEQ})
            AND (run_seq > {_CONTEXT_RUN_SEQ} OR role = 1
                OR seq >= (SELECT context_seq FROM conversations WHERE id = %(conversation)s))
        ORDER BY seq DESC LIMIT {MAX_HISTORY_MESSAGES}
    ) AS newest
) AS summed WHERE newer < %(history_tokens)s ORDER BY seq
""",
)

RUN_MESSAGES = Prepared(
    "run_messages",
    """
SELECT seq, id, run_id, run_seq, role, content::text, create_time FROM messages
WHERE conversation_id = %(conversation)s AND run_id = %(run)s AND seq > %(after)s AND seq < %(before)s ORDER BY seq
""",
)

LEDGER = Prepared("ledger", "SELECT tool_call_id, outcome, repeatable FROM tool_calls WHERE run_id = %(run)s")
RULINGS = Prepared(
    "rulings",
    """
SELECT message_id, call_ids, tool_versions, approved, reason FROM approvals
WHERE run_id = %(run)s AND organization_id = %(organization)s AND approved IS NOT NULL
""",
)

# Locks rows in the order of their ids, as everything that locks several does.
RENEW = Prepared(
    "renew",
    f"""
WITH held AS (
    SELECT conversations.id FROM unnest(%(conversations)s::uuid[], %(epochs)s::bigint[]) AS lease (id, epoch)
    JOIN conversations ON conversations.id = lease.id AND conversations.lease_epoch = lease.epoch
    ORDER BY conversations.id FOR UPDATE OF conversations
)
UPDATE conversations SET lease_expire_time = now() + interval '{LEASE_S} seconds'
FROM held WHERE conversations.id = held.id AND conversations.organization_id = %(organization)s
RETURNING conversations.id
""",
)
PUT_OFF = Prepared(
    "put_off",
    f"""
UPDATE dispatches SET due_time = now() + interval '{LEASE_S} seconds'
FROM conversations JOIN unnest(%(conversations)s::uuid[], %(epochs)s::bigint[]) AS lease (id, epoch)
    ON conversations.id = lease.id AND conversations.lease_epoch = lease.epoch
WHERE dispatches.conversation_id = conversations.id
""",
)

# Whoever could not take a held lease makes sure that it is tried again as soon as it expires. One that waits for somebody outside is
# not tried again before that somebody answers, once recall memory has its messages. Its row is locked: an answer that comes now must
# not be put off for ever.
DEFER = Prepared(
    "defer",
    f"""
WITH conv AS (
    SELECT waiting, indexed_seq >= message_seq AS indexed, lease_expire_time FROM conversations
    WHERE id = %(conversation)s AND organization_id = %(organization)s
        AND (waiting OR (lease_owner IS NOT NULL AND lease_expire_time > now())) FOR UPDATE
)
UPDATE dispatches SET due_time = CASE
    WHEN NOT conv.waiting THEN conv.lease_expire_time
    WHEN conv.indexed THEN 'infinity'
    ELSE now() + interval '{LEASE_S} seconds'
END FROM conv WHERE dispatches.conversation_id = %(conversation)s
""",
)

RELEASE = Prepared(
    "release",
    """
WITH conv AS (
    UPDATE conversations SET lease_owner = NULL, lease_expire_time = NULL, lease_epoch = lease_epoch + 1
    WHERE id = %(conversation)s AND organization_id = %(organization)s AND lease_epoch = %(epoch)s RETURNING id
)
UPDATE dispatches SET due_time = now() FROM conv WHERE dispatches.conversation_id = conv.id
""",
)

# Locks the conversation first; what follows sees everything committed before.
LOCK_OF_RUN = Prepared(
    "lock_of_run",
    """
SELECT conversations.id FROM conversations WHERE id = (
    SELECT conversation_id FROM runs WHERE id = %(run)s AND organization_id = %(organization)s
) AND organization_id = %(organization)s FOR UPDATE;
""",
)

RUN = Prepared("run", f"SELECT {RUN_COLUMNS} FROM runs WHERE id = %(run)s AND organization_id = %(organization)s")

CANCEL = Prepared(
    "cancel",
    f"""
WITH before AS (
    SELECT lease_owner, active_run_seq FROM conversations WHERE id = %(conversation)s
), run AS (
    UPDATE runs SET state = 6, stop_reason = 5, end_time = %(now)s
    WHERE id = %(run)s AND state IN (1, 2, 3) AND steps = %(steps)s AND input_tokens = %(input)s RETURNING runs.*
), conv AS (
    UPDATE conversations SET head_seq = head_seq + 1, open_runs = open_runs - 1,
        lease_owner = CASE WHEN before.active_run_seq = run.run_seq THEN NULL ELSE conversations.lease_owner END,
        waiting = conversations.waiting AND before.active_run_seq <> run.run_seq,
        lease_epoch = lease_epoch + CASE WHEN before.active_run_seq = run.run_seq THEN 1 ELSE 0 END
    FROM before, run WHERE conversations.id = %(conversation)s
    RETURNING conversations.head_seq, conversations.open_runs, conversations.lease_epoch
), event AS (
    INSERT INTO events (conversation_id, seq, organization_id, run_id, epoch, type, body)
    SELECT %(conversation)s, head_seq, %(organization)s, %(run)s, lease_epoch, %(type)s, %(body)s FROM conv
), ledger AS (
    UPDATE tool_calls SET outcome = 3, end_time = %(now)s FROM run
    WHERE tool_calls.run_id = run.id AND tool_calls.outcome = 0
), dispatch AS (
    UPDATE dispatches SET due_time = now() FROM conv WHERE conversation_id = %(conversation)s
), {COUNT_OUT}, {AUDIT}
SELECT {RUN_COLUMNS_OF_RUN}, conv.head_seq, conv.lease_epoch, conv.open_runs,
    CASE WHEN before.active_run_seq = run.run_seq THEN before.lease_owner END
FROM run, conv, before
""",
)

OPEN_RUNS = Prepared(
    "open_runs",
    """
SELECT id FROM runs WHERE organization_id = %(organization)s AND conversation_id = %(conversation)s AND state IN (1, 2, 3)
    AND run_seq >= (SELECT active_run_seq FROM conversations WHERE id = %(conversation)s) AND run_seq < %(before)s
ORDER BY run_seq
""",
)

# Of each organization the one that is due longest, then the second of each: one that floods does not hide the others.
DUE = Prepared(
    "due",
    f"""
WITH ranked AS (
    SELECT conversation_id, due_time, row_number() OVER (PARTITION BY organization_id ORDER BY due_time) AS place
    FROM dispatches WHERE due_time <= now()
), due AS (
    SELECT conversation_id FROM dispatches WHERE conversation_id IN (
        SELECT conversation_id FROM ranked ORDER BY place, due_time LIMIT %(limit)s
    ) AND due_time <= now() FOR UPDATE SKIP LOCKED
)
UPDATE dispatches SET due_time = now() + (random() * 2 + {PUT_OFF_S}) * interval '1 second'
FROM due WHERE dispatches.conversation_id = due.conversation_id
RETURNING dispatches.organization_id, dispatches.conversation_id
""",
)

HEAD = Prepared(
    "head",
    """
SELECT head_seq, CASE WHEN lease_expire_time > now() THEN lease_owner END, (
    SELECT runs.id FROM runs WHERE runs.conversation_id = conversations.id AND runs.run_seq = conversations.active_run_seq
        AND runs.state = 2 AND conversations.lease_owner IS NOT NULL
) FROM conversations
WHERE id = %(conversation)s AND organization_id = %(organization)s;
""",
)

EVENTS = Prepared(
    "events",
    """
SELECT seq, run_id, epoch, type, body FROM events
WHERE conversation_id = %(conversation)s AND organization_id = %(organization)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
""",
)

UNINDEXED = Prepared(
    "unindexed",
    """
SELECT conversations.id, conversations.agent_id, conversations.message_seq, new.*
FROM conversations LEFT JOIN LATERAL (
    SELECT messages.seq, messages.id, messages.run_id, messages.run_seq, messages.role, messages.content::text,
        messages.create_time
    FROM messages WHERE messages.conversation_id = conversations.id AND messages.seq > conversations.indexed_seq
    ORDER BY messages.seq LIMIT %(limit)s
) AS new ON true
WHERE conversations.id = ANY(%(conversations)s) AND conversations.organization_id = %(organization)s
ORDER BY conversations.id, new.seq
""",
)

MARK_INDEXED = Prepared(
    "mark_indexed",
    """
UPDATE conversations SET indexed_seq = GREATEST(conversations.indexed_seq, done.seq)
FROM (SELECT conversations.id, given.seq FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[]) AS given (id, seq)
    JOIN conversations ON conversations.id = given.id ORDER BY conversations.id FOR UPDATE OF conversations) AS done
WHERE conversations.id = done.id AND conversations.organization_id = %(organization)s
""",
)
FORGET_DONE = Prepared(
    "forget_done",
    """
DELETE FROM dispatches USING conversations WHERE dispatches.conversation_id = ANY(%(conversations)s)
    AND conversations.id = dispatches.conversation_id AND conversations.open_runs = 0
    AND conversations.indexed_seq >= conversations.message_seq
""",
)
