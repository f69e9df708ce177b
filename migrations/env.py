"""Alembic's entry: runs the revisions on the connection that `migrations._run` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    # The revisions name their constraints themselves.
    target_metadata=None,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
