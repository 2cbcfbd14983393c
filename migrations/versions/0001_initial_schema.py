"""initial schema"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "content",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_content")),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=80), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("username", name=op.f("uq_user_username")),
    )
    op.create_table(
        "chunk",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["content.sha256"], name=op.f("fk_chunk_sha256_content"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sha256", "position", name=op.f("pk_chunk")),
    )
    op.create_table(
        "raw_data",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("files_path", sa.String(length=200), nullable=False),
        sa.Column("target_column", sa.Text(), nullable=False),
        sa.Column("workflow_elements", sa.Text(), nullable=False),
        sa.Column("time_limit", sa.Double(), nullable=True),
        sa.Column("memory_limit", sa.Integer(), nullable=True),
        sa.Column("held_out_test", sa.Double(), nullable=True),
        sa.Column("random_state", sa.BigInteger(), nullable=True),
        sa.Column("split_state", sa.String(length=10), nullable=True),
        sa.Column("n_train", sa.Integer(), nullable=True),
        sa.Column("n_test", sa.Integer(), nullable=True),
        sa.Column("classes", sa.JSON(), nullable=True),
        sa.Column("specific_needed", sa.Boolean(), nullable=False),
        sa.Column("specific_failed", sa.Boolean(), nullable=False),
        sa.Column("log_messages", sa.Text(), nullable=True),
        sa.Column("split_is", sa.String(length=64), nullable=True),
        sa.Column("y_train", sa.String(length=64), nullable=True),
        sa.Column("X_train", sa.String(length=64), nullable=True),
        sa.Column("X_test", sa.String(length=64), nullable=True),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("token", sa.String(length=36), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["X_test"], ["content.sha256"], name=op.f("fk_raw_data_X_test_content")),
        sa.ForeignKeyConstraint(["X_train"], ["content.sha256"], name=op.f("fk_raw_data_X_train_content")),
        sa.ForeignKeyConstraint(["split_is"], ["content.sha256"], name=op.f("fk_raw_data_split_is_content")),
        sa.ForeignKeyConstraint(["y_train"], ["content.sha256"], name=op.f("fk_raw_data_y_train_content")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raw_data")),
        sa.UniqueConstraint("name", name=op.f("uq_raw_data_name")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("raw_data", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_raw_data_split_state"), ["split_state"], unique=False)

    op.create_table(
        "raw_data_file",
        sa.Column("raw_data_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["raw_data_id"], ["raw_data.id"], name=op.f("fk_raw_data_file_raw_data_id_raw_data"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sha256"], ["content.sha256"], name=op.f("fk_raw_data_file_sha256_content")),
        sa.PrimaryKeyConstraint("raw_data_id", "name", name=op.f("pk_raw_data_file")),
    )
    with op.batch_alter_table("raw_data_file", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_raw_data_file_sha256"), ["sha256"], unique=False)

    op.create_table(
        "submission",
        sa.Column(
            "databoard_s_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("files_path", sa.String(length=200), nullable=False),
        sa.Column("raw_data", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["raw_data"], ["raw_data.id"], name=op.f("fk_submission_raw_data_raw_data")),
        sa.PrimaryKeyConstraint("databoard_s_id", name=op.f("pk_submission")),
    )
    with op.batch_alter_table("submission", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_submission_raw_data"), ["raw_data"], unique=False)

    op.create_table(
        "submission_file",
        sa.Column("databoard_s_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["databoard_s_id"],
            ["submission.databoard_s_id"],
            name=op.f("fk_submission_file_databoard_s_id_submission"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["sha256"], ["content.sha256"], name=op.f("fk_submission_file_sha256_content")),
        sa.PrimaryKeyConstraint("databoard_s_id", "name", name=op.f("pk_submission_file")),
    )
    with op.batch_alter_table("submission_file", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_submission_file_sha256"), ["sha256"], unique=False)

    op.create_table(
        "submission_fold",
        sa.Column(
            "databoard_sf_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("databoard_s", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("priority", sa.String(length=1), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=True),
        sa.Column("new", sa.Boolean(), nullable=False),
        sa.Column("train_time", sa.Double(), nullable=False),
        sa.Column("validation_time", sa.Double(), nullable=False),
        sa.Column("test_time", sa.Double(), nullable=False),
        sa.Column("train_cpu_time", sa.Double(), nullable=False),
        sa.Column("test_cpu_time", sa.Double(), nullable=False),
        sa.Column("train_memory", sa.Double(), nullable=False),
        sa.Column("test_memory", sa.Double(), nullable=False),
        sa.Column("isolation", sa.String(length=10), nullable=True),
        sa.Column("versions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("submission_hash", sa.String(length=64), nullable=True),
        sa.Column("raw_data_hash", sa.String(length=64), nullable=True),
        sa.Column("log_messages", sa.Text(), nullable=True),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("token", sa.String(length=36), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["databoard_s"], ["submission.databoard_s_id"], name=op.f("fk_submission_fold_databoard_s_submission")
        ),
        sa.PrimaryKeyConstraint("databoard_sf_id", name=op.f("pk_submission_fold")),
    )
    with op.batch_alter_table("submission_fold", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_submission_fold_databoard_s"), ["databoard_s"], unique=False)
        batch_op.create_index(
            "ix_submission_fold_light", ["databoard_sf_id", "databoard_s", "state", "new"], unique=False
        )
        batch_op.create_index("ix_submission_fold_state", ["state", "new"], unique=False)

    op.create_table(
        "fold_indices",
        sa.Column("databoard_sf_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("train_is", sa.LargeBinary(), nullable=False),
        sa.Column("test_is", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["databoard_sf_id"],
            ["submission_fold.databoard_sf_id"],
            name=op.f("fk_fold_indices_databoard_sf_id_submission_fold"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("databoard_sf_id", name=op.f("pk_fold_indices")),
    )
    op.create_table(
        "fold_predictions",
        sa.Column("databoard_sf_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("predictions_shape", sa.JSON(), nullable=False),
        sa.Column("full_train_predictions", sa.LargeBinary(), nullable=False),
        sa.Column("test_predictions", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["databoard_sf_id"],
            ["submission_fold.databoard_sf_id"],
            name=op.f("fk_fold_predictions_databoard_sf_id_submission_fold"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("databoard_sf_id", name=op.f("pk_fold_predictions")),
    )


def downgrade() -> None:
    op.drop_table("fold_predictions")
    op.drop_table("fold_indices")
    with op.batch_alter_table("submission_fold", schema=None) as batch_op:
        batch_op.drop_index("ix_submission_fold_state")
        batch_op.drop_index("ix_submission_fold_light")
        batch_op.drop_index(batch_op.f("ix_submission_fold_databoard_s"))

    op.drop_table("submission_fold")
    with op.batch_alter_table("submission_file", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_submission_file_sha256"))

    op.drop_table("submission_file")
    with op.batch_alter_table("submission", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_submission_raw_data"))

    op.drop_table("submission")
    with op.batch_alter_table("raw_data_file", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_raw_data_file_sha256"))

    op.drop_table("raw_data_file")
    with op.batch_alter_table("raw_data", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_raw_data_split_state"))

    op.drop_table("raw_data")
    op.drop_table("chunk")
    op.drop_table("user")
    op.drop_table("content")
