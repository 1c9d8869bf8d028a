"""Where the context of a conversation begins since its newest summary, and the tokens of a step by section."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds columns with constant defaults: no table is rewritten."""
    # The first message that the newest summary does not stand for, in the model's order; 0: there is no summary.
    op.add_column("conversations", sa.Column("context_run_seq", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("conversations", sa.Column("context_seq", sa.BigInteger, nullable=False, server_default="0"))
    # In the order of domain.run.ContextTokens; empty: not counted.
    op.add_column("run_steps", sa.Column("section_tokens", ARRAY(sa.Integer), nullable=False, server_default="{}"))
