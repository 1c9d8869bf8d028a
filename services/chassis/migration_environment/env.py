"""Alembic's environment for all services: runs revisions on the connection that `chassis.migrations.migrate` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
