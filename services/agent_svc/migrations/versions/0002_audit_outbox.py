"""The outbox of audit records: written with the effects, emptied once user_svc has them."""

from alembic import op

from chassis.audit.outbox import create_audit_outbox

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the table."""
    create_audit_outbox(op)
