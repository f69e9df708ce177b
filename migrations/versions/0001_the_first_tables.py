"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

WHEN = sa.DateTime(timezone=True)
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
STATE = sa.Enum(
    "empty",
    "queued",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    name="state",
    native_enum=False,
    create_constraint=True,
)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("last_used_at", WHEN, nullable=True),
        sa.Column("revoked_at", WHEN, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("upload_key", sa.String(), nullable=True),
        sa.Column("upload_name", sa.String(), nullable=True),
        sa.Column("source_uri", sa.String(), nullable=True),
        sa.Column("samples", BIG, nullable=False),
        sa.Column("quarantined", BIG, nullable=False),
        sa.Column("bytes", BIG, nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("index_key", sa.String(), nullable=True),
        sa.Column("quarantine_key", sa.String(), nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("done", BIG, nullable=False),
        sa.Column("total", BIG, nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("started_at", WHEN, nullable=True),
        sa.Column("finished_at", WHEN, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_datasets_created_at"), ["created_at"], unique=False)

    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("request_hash", sa.String(), nullable=False),
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("created_at", WHEN, nullable=False),
        sa.PrimaryKeyConstraint("key", "route", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "worker_leases",
        sa.Column("executor_id", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", BIG, nullable=False),
        sa.Column("queues", sa.String(), nullable=False),
        sa.Column("started_at", WHEN, nullable=False),
        sa.Column("expires_at", WHEN, nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name=op.f("pk_worker_leases")),
    )
    with op.batch_alter_table("worker_leases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_worker_leases_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "embeddings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("encoder", sa.String(), nullable=False),
        sa.Column("encoder_fingerprint", sa.String(), nullable=False),
        sa.Column("encoder_key", sa.String(), nullable=True),
        sa.Column("dimension", BIG, nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("created_at", WHEN, nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_embeddings_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embeddings")),
        sa.UniqueConstraint(
            "dataset_id", "encoder_fingerprint", name=op.f("uq_embeddings_dataset_id_encoder_fingerprint")
        ),
    )
    op.create_table(
        "shards",
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("ordinal", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("thumbnails_key", sa.String(), nullable=False),
        sa.Column("first", BIG, nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_shards_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "ordinal", name=op.f("pk_shards")),
    )
    op.create_table(
        "curations",
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("embedding_id", sa.String(), nullable=True),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("result_key", sa.String(), nullable=True),
        sa.Column("summary", JSON, nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("done", BIG, nullable=False),
        sa.Column("total", BIG, nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("started_at", WHEN, nullable=True),
        sa.Column("finished_at", WHEN, nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_curations_dataset_id_datasets")),
        sa.ForeignKeyConstraint(["embedding_id"], ["embeddings.id"], name=op.f("fk_curations_embedding_id_embeddings")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_curations")),
    )
    with op.batch_alter_table("curations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_curations_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_curations_dataset_id"), ["dataset_id"], unique=False)

    op.create_table(
        "decisions",
        sa.Column("id", BIG, nullable=False),
        sa.Column("curation_id", sa.String(), nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("sample", BIG, nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("undoes", BIG, nullable=True),
        sa.Column("created_at", WHEN, nullable=False),
        sa.ForeignKeyConstraint(["curation_id"], ["curations.id"], name=op.f("fk_decisions_curation_id_curations")),
        sa.ForeignKeyConstraint(["undoes"], ["decisions.id"], name=op.f("fk_decisions_undoes_decisions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        sa.UniqueConstraint("curation_id", "sequence", name=op.f("uq_decisions_curation_id_sequence")),
        sa.UniqueConstraint("undoes", name=op.f("uq_decisions_undoes")),
    )
    op.create_table(
        "manifests",
        sa.Column("curation_id", sa.String(), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("summary", JSON, nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("done", BIG, nullable=False),
        sa.Column("total", BIG, nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("started_at", WHEN, nullable=True),
        sa.Column("finished_at", WHEN, nullable=True),
        sa.ForeignKeyConstraint(["curation_id"], ["curations.id"], name=op.f("fk_manifests_curation_id_curations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_manifests")),
    )
    with op.batch_alter_table("manifests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_manifests_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_manifests_curation_id"), ["curation_id"], unique=False)

    op.create_table(
        "trainings",
        sa.Column("manifest_id", sa.String(), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("done", BIG, nullable=False),
        sa.Column("total", BIG, nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("started_at", WHEN, nullable=True),
        sa.Column("finished_at", WHEN, nullable=True),
        sa.ForeignKeyConstraint(["manifest_id"], ["manifests.id"], name=op.f("fk_trainings_manifest_id_manifests")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trainings")),
    )
    with op.batch_alter_table("trainings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trainings_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_trainings_manifest_id"), ["manifest_id"], unique=False)

    op.create_table(
        "metrics",
        sa.Column("training_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("step", BIG, autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"], ["trainings.id"], name=op.f("fk_metrics_training_id_trainings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("training_id", "name", "step", name=op.f("pk_metrics")),
    )


def downgrade() -> None:
    op.drop_table("metrics")
    with op.batch_alter_table("trainings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_trainings_manifest_id"))
        batch_op.drop_index(batch_op.f("ix_trainings_created_at"))

    op.drop_table("trainings")
    with op.batch_alter_table("manifests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_manifests_curation_id"))
        batch_op.drop_index(batch_op.f("ix_manifests_created_at"))

    op.drop_table("manifests")
    op.drop_table("decisions")
    with op.batch_alter_table("curations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_curations_dataset_id"))
        batch_op.drop_index(batch_op.f("ix_curations_created_at"))

    op.drop_table("curations")
    op.drop_table("shards")
    op.drop_table("embeddings")
    with op.batch_alter_table("worker_leases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_worker_leases_expires_at"))

    op.drop_table("worker_leases")
    op.drop_table("idempotency_keys")
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_datasets_created_at"))

    op.drop_table("datasets")
    op.drop_table("api_keys")
