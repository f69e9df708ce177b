"""A training may be an experiment on a curation: many runs, each kept as it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0035"
down_revision = "0034"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with _metrics_kept(), op.batch_alter_table("trainings") as batch:
        batch.alter_column("manifest_id", existing_type=sa.String(), nullable=True)
        batch.add_column(sa.Column("curation_id", sa.String(), nullable=True))
        batch.create_foreign_key(op.f("fk_trainings_curation_id_curations"), "curations", ["curation_id"], ["id"])
        batch.create_index(op.f("ix_trainings_curation_id"), ["curation_id"])
    op.create_table(
        "training_runs",
        sa.Column("training_id", sa.String(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("seed", BIG, autoincrement=False, nullable=False),
        sa.Column("outcome", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"], ["trainings.id"], name=op.f("fk_training_runs_training_id_trainings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("training_id", "arm", "seed", name=op.f("pk_training_runs")),
    )


@contextmanager
def _metrics_kept() -> Iterator[None]:
    """SQLite changes a table by making it anew, and the fall of the old one takes along what refers to its rows."""
    if op.get_bind().dialect.name != "sqlite":
        yield
        return
    op.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM metrics")
    yield
    op.execute("INSERT INTO metrics SELECT * FROM kept WHERE training_id IN (SELECT id FROM trainings)")
    op.execute("DROP TABLE kept")


def downgrade() -> None:
    op.drop_table("training_runs")
    op.execute("DELETE FROM trainings WHERE manifest_id IS NULL")
    with _metrics_kept(), op.batch_alter_table("trainings") as batch:
        batch.drop_index(op.f("ix_trainings_curation_id"))
        batch.drop_constraint(op.f("fk_trainings_curation_id_curations"), type_="foreignkey")
        batch.drop_column("curation_id")
        batch.alter_column("manifest_id", existing_type=sa.String(), nullable=False)
