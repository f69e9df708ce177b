"""How far each part of a curation's scan is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "scan_parts",
        sa.Column("curation_id", sa.String(), nullable=False),
        sa.Column("part", BIG, autoincrement=False, nullable=False),
        sa.Column("done", BIG, nullable=False),
        sa.Column("total", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["curation_id"],
            ["curations.id"],
            name=op.f("fk_scan_parts_curation_id_curations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("curation_id", "part", name=op.f("pk_scan_parts")),
    )


def downgrade() -> None:
    op.drop_table("scan_parts")
