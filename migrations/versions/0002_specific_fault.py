"""raw_data.specific_failed becomes specific_fault, the error and its line; "" where a split of before had one"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("raw_data", sa.Column("specific_fault", sa.Text(), nullable=True))
    raw_data = sa.table("raw_data", sa.column("specific_fault", sa.Text), sa.column("specific_failed", sa.Boolean))
    op.execute(sa.update(raw_data).where(raw_data.c.specific_failed).values(specific_fault=""))
    op.drop_column("raw_data", "specific_failed")


def downgrade() -> None:
    op.add_column("raw_data", sa.Column("specific_failed", sa.Boolean(), nullable=False, server_default=sa.false()))
    raw_data = sa.table("raw_data", sa.column("specific_fault", sa.Text), sa.column("specific_failed", sa.Boolean))
    op.execute(sa.update(raw_data).where(raw_data.c.specific_fault.is_not(None)).values(specific_failed=True))
    op.drop_column("raw_data", "specific_fault")
