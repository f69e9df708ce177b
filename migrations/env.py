"""Alembic's entry: runs the revisions on the connection that `migrations._run` hands over."""

from alembic import context

from tamis.store.schema import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
