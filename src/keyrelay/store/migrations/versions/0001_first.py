"""The profile with its history, secrets and their keys, users and roles."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TOPICS = ("access", "keys", "profile")


def upgrade() -> None:
    marks = op.create_table(
        "change_mark",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(marks, [{"topic": topic, "version": 0} for topic in _TOPICS])
    op.create_table(
        "data_key",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("master_id", sa.Text, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("made_at", sa.Text, nullable=False),
    )
    op.create_table(
        "stored_secret",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("key_id", sa.Integer, sa.ForeignKey("data_key.id"), nullable=False, index=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "profile_revision",
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("restored_from", sa.Integer),
    )
    op.create_table(
        "account",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
    )
    op.create_table("role", sa.Column("name", sa.Text, primary_key=True))
    op.create_table(
        "role_permission",
        sa.Column("role", sa.Text, sa.ForeignKey("role.name"), primary_key=True),
        sa.Column("permission", sa.Text, primary_key=True),
    )
    op.create_table(
        "role_holder",
        sa.Column("role", sa.Text, sa.ForeignKey("role.name"), primary_key=True),
        sa.Column("account", sa.Text, sa.ForeignKey("account.name"), primary_key=True),
    )
