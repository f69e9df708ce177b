"""What happened, in tables that only grow: lines of jobs' logs, and who changed what."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "job_lines",
        sa.Column("id", BIG, nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_lines")),
    )
    op.create_index(op.f("ix_job_lines_job_id"), "job_lines", ["job_id"])
    op.create_table(
        "audit",
        sa.Column("id", BIG, nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("status", BIG, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.add_column("datasets", sa.Column("key_id", sa.String(), nullable=True))
    for column in ("gpu_used", "gpu_total"):
        op.add_column("worker_leases", sa.Column(column, BIG, nullable=True))
    op.add_column("api_keys", sa.Column("quota_bytes", BIG, nullable=True))


def downgrade() -> None:
    for column in ("gpu_total", "gpu_used"):
        op.drop_column("worker_leases", column)
    op.drop_column("api_keys", "quota_bytes")
    op.drop_column("datasets", "key_id")
    op.drop_table("audit")
    op.drop_index(op.f("ix_job_lines_job_id"), "job_lines")
    op.drop_table("job_lines")
