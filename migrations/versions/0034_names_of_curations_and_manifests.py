"""Curations and manifests may be named."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    for table in ("curations", "manifests"):
        op.add_column(table, sa.Column("name", sa.String(), nullable=True))


def downgrade() -> None:
    for table in ("manifests", "curations"):
        op.drop_column(table, "name")
