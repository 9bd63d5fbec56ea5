"""Sessions of people who have signed in to the portal."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("UPDATE schema_floor SET oldest = '0004'")
    # ``id`` is a hash of what the cookie holds. Of a local user ``password_mark`` goes with the password; of
    # somebody else ``claims`` is what the identity provider has stated. Times are microseconds since 1970.
    op.create_table(
        "portal_session",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, index=True),
        sa.Column("password_mark", sa.Text),
        sa.Column("provider", sa.Text),
        sa.Column("claims", sa.Text),
        sa.Column("began_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("seen_at", sa.BigInteger, nullable=False, index=True),
    )
