"""Jobs have a priority and count the workers that died in them; leases say for how long others wait."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"

JOBS = ("datasets", "curations", "manifests", "trainings")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for table in JOBS:
        op.add_column(table, sa.Column("priority", sa.String(), server_default="normal", nullable=False))
        op.add_column(table, sa.Column("deaths", BIG, server_default="0", nullable=False))
    op.add_column("worker_leases", sa.Column("seconds", sa.Double(), server_default="15", nullable=False))


def downgrade() -> None:
    op.drop_column("worker_leases", "seconds")
    for table in JOBS:
        op.drop_column(table, "deaths")
        op.drop_column(table, "priority")
