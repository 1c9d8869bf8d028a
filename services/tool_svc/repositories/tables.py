"""tool_svc's tables, as the migrations make them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

_metadata = sa.MetaData()


def _content() -> list[sa.Column[object]]:
    return [
        sa.Column("description", sa.Text),
        sa.Column("source_code", sa.Text),
        sa.Column("entry_point", sa.Text),
        sa.Column("parameters", JSONB),
        sa.Column("tags", ARRAY(sa.Text)),
        sa.Column("settings", JSONB),
    ]


CONTENT = tuple(column.name for column in _content())

tools = sa.Table(
    "tools",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("name", sa.Text),
    sa.Column("kind", sa.SmallInteger),
    *_content(),
    sa.Column("version", sa.Integer),
    sa.Column("create_time", sa.DateTime(timezone=True)),
    sa.Column("update_time", sa.DateTime(timezone=True)),
    sa.Column("delete_time", sa.DateTime(timezone=True)),
    sa.Column("mcp_server_id", sa.Uuid),
)

tool_versions = sa.Table(
    "tool_versions",
    _metadata,
    sa.Column("tool_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    *_content(),
    sa.Column("author", sa.Text),
    sa.Column("create_time", sa.DateTime(timezone=True)),
)

secrets = sa.Table(
    "secrets",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("name", sa.Text),
    sa.Column("key_id", sa.Text),
    sa.Column("wrapped_key", sa.LargeBinary),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("create_time", sa.DateTime(timezone=True)),
    sa.Column("update_time", sa.DateTime(timezone=True)),
)

mcp_servers = sa.Table(
    "mcp_servers",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("name", sa.Text),
    sa.Column("transport", sa.SmallInteger),
    sa.Column("url", sa.Text),
    sa.Column("command", ARRAY(sa.Text)),
    sa.Column("header_secrets", JSONB),
    sa.Column("secrets", ARRAY(sa.Text)),
    sa.Column("timeout_ms", sa.Integer),
    sa.Column("revision", sa.Integer),
    sa.Column("sync_time", sa.DateTime(timezone=True)),
    sa.Column("sync_error", sa.Text),
    sa.Column("create_time", sa.DateTime(timezone=True)),
    sa.Column("update_time", sa.DateTime(timezone=True)),
    sa.Column("delete_time", sa.DateTime(timezone=True)),
)
