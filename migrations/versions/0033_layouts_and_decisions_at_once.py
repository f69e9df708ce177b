"""Where a map draws a curation's samples, and who decided what at once."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("curations", sa.Column("layout_key", sa.String(), nullable=True))
    op.add_column("decisions", sa.Column("by", sa.String(), nullable=False, server_default=""))
    op.add_column("decisions", sa.Column("batch", sa.String(), nullable=True))
    op.create_index("ix_decisions_batch", "decisions", ["batch"])
    op.create_index("ix_decisions_curation_id_sample", "decisions", ["curation_id", "sample"])


def downgrade() -> None:
    op.drop_index("ix_decisions_curation_id_sample", "decisions")
    op.drop_index("ix_decisions_batch", "decisions")
    op.drop_column("decisions", "batch")
    op.drop_column("decisions", "by")
    op.drop_column("curations", "layout_key")
