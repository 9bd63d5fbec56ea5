"""PAM provider types, providers, and the entries of local providers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    marks = sa.table("change_mark", sa.column("topic"), sa.column("version"))
    op.bulk_insert(marks, [{"topic": "pam", "version": 0}])
    op.create_table(
        "pam_type",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    # A number is given once: a reference in an old profile must never come to mean another provider.
    numbers = op.create_table(
        "pam_number",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )
    op.bulk_insert(numbers, [{"kind": "provider", "last": 0}, {"kind": "parameter", "last": 0}])
    op.create_table(
        "pam_provider",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("type", sa.Text, sa.ForeignKey("pam_type.id"), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "pam_entry",
        sa.Column("provider", sa.Integer, sa.ForeignKey("pam_provider.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("description", sa.Text),
        sa.Column("secret", sa.Text, sa.ForeignKey("stored_secret.id"), nullable=False, index=True),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
