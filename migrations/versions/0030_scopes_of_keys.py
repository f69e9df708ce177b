"""What a key may do, and until when. Those that were made before may do everything, for good."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scope", sa.String(), nullable=False, server_default="admin"))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "expires_at")
    op.drop_column("api_keys", "scope")
