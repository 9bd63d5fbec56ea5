"""Identity providers, claims, API tokens, limits that hold across nodes, and the audit trail.

Roles get what the compatible API shows of them; nodes of the version before add roles without that, and a start or a
change of this version numbers them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_Plain = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.execute("UPDATE schema_floor SET oldest = '0003'")
    _roles()
    _identity()
    _limits()
    _audit()


def _roles() -> None:
    for column in (
        sa.Column("id", sa.Integer),
        sa.Column("description", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("permission_set", sa.Text),
    ):
        op.add_column("role", column)
    op.create_index("role_id", "role", ["id"], unique=True)
    # A number is given once: what a client has kept must never come to mean another role or claim.
    numbers = op.create_table(
        "access_number",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )
    op.bulk_insert(numbers, [{"kind": "role", "last": 0}, {"kind": "claim", "last": 0}])
    op.create_table(
        "claim",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("type", sa.SmallInteger, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("scheme", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.UniqueConstraint("scheme", "type", "value"),
    )
    op.create_table(
        "role_claim",
        sa.Column("role", sa.Text, sa.ForeignKey("role.name"), primary_key=True),
        sa.Column("claim", sa.Integer, sa.ForeignKey("claim.id"), primary_key=True, index=True),
    )


def _identity() -> None:
    op.create_table(
        "identity_provider",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("scheme", sa.Text, nullable=False, unique=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("permissions", sa.Text, nullable=False),
        sa.Column("made_at", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
    )


def _limits() -> None:
    # Microseconds since 1970 by the database's clock. ``used`` of an allowance as of ``at``; it refills with time.
    op.create_table(
        "sign_in_failure",
        sa.Column("key", _Plain, primary_key=True),
        sa.Column("used", sa.Double, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sign_in_known",
        sa.Column("key", _Plain, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rate_part",
        sa.Column("key", _Plain, primary_key=True),
        sa.Column("part", sa.BigInteger, primary_key=True),
        sa.Column("amount", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("rate_part_part", "rate_part", ["part"])


def _audit() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", _Plain, nullable=False),
        sa.Column("category", sa.Integer, nullable=False),
        sa.Column("operation", sa.Integer, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("actor", _Plain, nullable=False),
        sa.Column("address", sa.Text),
        sa.Column("kind", _Plain, nullable=False),
        sa.Column("name", _Plain),
        sa.Column("object", _Plain),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
    )
    # One for each order that a list can be in.
    nulls_first = sa.text("object NULLS FIRST") if op.get_bind().dialect.name == "postgresql" else "object"
    op.create_index("audit_entry_at", "audit_entry", ["at", "id"])
    op.create_index("audit_entry_object", "audit_entry", [nulls_first, "id"])
    op.create_index("audit_entry_category", "audit_entry", ["category", "id"])
    op.create_index("audit_entry_operation", "audit_entry", ["operation", "id"])
    op.create_index("audit_entry_level", "audit_entry", ["level", "id"])
    # ``last`` and ``hash`` are of the newest entry; ``floor`` and ``floor_hash`` of the newest one that is forgotten.
    # ``seal`` signs the four together. ``sealed`` is the key that signs, encrypted with a data key.
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("floor", sa.Integer, nullable=False),
        sa.Column("floor_hash", sa.Text, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
        sa.Column("key_id", sa.Integer, sa.ForeignKey("data_key.id")),
        sa.Column("sealed", sa.LargeBinary),
    )
    op.bulk_insert(head, [{"id": 1, "last": 0, "hash": "", "floor": 0, "floor_hash": "", "seal": "", "key_id": None}])
    if op.get_bind().dialect.name == "postgresql":
        # Rows that are updated over and over, in no indexed column, and tables that churn.
        for table in ("audit_head", "sign_in_failure", "rate_part"):
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")
