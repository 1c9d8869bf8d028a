"""The statements about runs that wait for somebody outside. As in log_sql, what is written hangs on the conversation's locked row."""

from __future__ import annotations

from agent_svc.repositories.log_sql import AUDIT, PUT_OFF_S, RUN_COLUMNS_OF_RUN
from agent_svc.repositories.prepared import Prepared

# A conversation that begins to wait is looked at once more, so that what it said gets into recall memory even if the worker dies now.
LOOK_ONCE_MORE = (
    f"dispatch AS (UPDATE dispatches SET due_time = now() + interval '{PUT_OFF_S} seconds' FROM conv "
    "WHERE dispatches.conversation_id = %(conversation)s)"
)

RESOLVE = Prepared(
    "resolve",
    f"""
WITH approval AS (
    UPDATE approvals SET approved = %(approved)s, reason = %(reason)s, resolved_by = %(user)s, resolve_time = %(now)s
    WHERE id = %(approval)s AND run_id = %(run)s AND organization_id = %(organization)s AND approvals.approved IS NULL
        AND (arguments_hash = %(arguments_hash)s OR (%(arguments_hash)s = '' AND NOT %(approved)s))
        AND EXISTS (SELECT FROM runs WHERE runs.id = %(run)s AND runs.state = 3)
    RETURNING conversation_id
), run AS (
    UPDATE runs SET state = 1 FROM approval WHERE runs.id = %(run)s RETURNING runs.*
), conv AS (
    UPDATE conversations SET head_seq = head_seq + 1, waiting = false, update_time = %(now)s
    FROM approval WHERE conversations.id = approval.conversation_id RETURNING conversations.id, head_seq
), event AS (
    INSERT INTO events (conversation_id, seq, organization_id, run_id, epoch, type, body)
    SELECT id, head_seq, %(organization)s, %(run)s, 0, %(type)s, %(body)s FROM conv
), dispatch AS (
    INSERT INTO dispatches (conversation_id, organization_id, due_time)
    SELECT id, %(organization)s, now() + %(due_in)s * interval '1 second' FROM conv
    ON CONFLICT (conversation_id) DO UPDATE SET due_time = EXCLUDED.due_time
), {AUDIT}
SELECT {RUN_COLUMNS_OF_RUN}, conv.head_seq FROM run, conv
""",
)

# As it is afterwards, whoever decided.
APPROVAL = Prepared(
    "approval",
    """
SELECT approved, COALESCE(reason, ''), arguments_hash FROM approvals
WHERE id = %(approval)s AND run_id = %(run)s AND organization_id = %(organization)s
""",
)
