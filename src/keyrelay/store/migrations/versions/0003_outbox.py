"""The outbox: messages, their content, attempts, the nodes that work, and what all of them have used of the limits.

Times are microseconds since 1970: of the wall clock in ``submitted_at``, ``release_at``, ``started_at``, ``ended_at``
of an attempt and ``minute``; outbox time (``outbox/schedule.py``) everywhere else.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Ids and states are compared as bytes, which is what SQLite does anyway: half the time of a locale's rules.
_Plain = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Octets = sa.LargeBinary
# SQLite keeps tables without rowids in the order of their keys, and needs no index beside them: a page less to write.


def upgrade() -> None:
    _floor()
    _messages()
    _nodes()
    _books()
    _housekeeping()
    if op.get_bind().dialect.name == "postgresql":
        _tune_postgresql()


def _floor() -> None:
    """The oldest keyrelay, by the schema it was made for, that may work on this schema while nodes are replaced."""
    floor = op.create_table("schema_floor", sa.Column("oldest", sa.Text, primary_key=True))
    op.bulk_insert(floor, [{"oldest": "0002"}])
    # What is to be done is told by it on SQLite; on PostgreSQL, by a notification.
    marks = sa.table("change_mark", sa.column("topic"), sa.column("version"))
    op.bulk_insert(marks, [{"topic": "outbox", "version": 0}])


def _messages() -> None:
    op.create_table(
        "message",
        sa.Column("id", _Plain, primary_key=True),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("submitted_by", sa.Text, nullable=False),
        sa.Column("submitted_at", sa.BigInteger, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("needs_smtputf8", sa.SmallInteger, nullable=False),
        sa.Column("needs_8bit", sa.SmallInteger, nullable=False),
        sa.Column("send_after", sa.BigInteger),
        sa.Column("recipients", sa.Text, nullable=False),
        sa.Column("state", _Plain, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("release_at", sa.BigInteger),
        sa.Column("lease", _Plain),
        sa.Column("claimed_at", sa.BigInteger),
        sa.Column("claimed", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    _index("message_due", "priority", "due_at", where="due_at IS NOT NULL")
    _index("message_release", "release_at", where="release_at IS NOT NULL")
    _index("message_state", "state", "id")
    op.create_table(
        "message_content",
        sa.Column("message", _Plain, primary_key=True),
        sa.Column("key_id", sa.Integer, sa.ForeignKey("data_key.id"), nullable=False, index=True),
        sa.Column("sealed", _Octets, nullable=False),
    )
    op.create_table(
        "message_recipient",
        sa.Column("address", _Plain, primary_key=True),
        sa.Column("message", _Plain, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempt",
        sa.Column("message", _Plain, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "submission_key",
        sa.Column("key", _Plain, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False, index=True),
        sqlite_with_rowid=False,
    )


def _nodes() -> None:
    outbox = op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("now", sa.BigInteger, nullable=False),
        sa.Column("wall", sa.BigInteger, nullable=False),
        sa.Column("pressure", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("probing_until", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(outbox, [{"id": 1, "now": 0, "wall": 0, "pressure": "{}", "revision": 0, "probing_until": 0}])
    # ``messages`` and ``recipients`` are what the node has claimed and not settled yet.
    op.create_table(
        "node",
        sa.Column("id", _Plain, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("works", sa.SmallInteger, nullable=False),
        sa.Column("connections", sa.Integer, nullable=False),
        sa.Column("messages", sa.Integer, nullable=False),
        sa.Column("recipients", sa.Integer, nullable=False),
    )


def _books() -> None:
    op.create_table(
        "outbox_sum",
        sa.Column("counted", sa.Text, primary_key=True),
        sa.Column("seconds", sa.Integer, primary_key=True),
        sa.Column("part", sa.BigInteger, primary_key=True),
        sa.Column("amount", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    # A row of each node's own for each: whoever counts waits for nobody.
    op.create_table(
        "outbox_tally",
        sa.Column("node", _Plain, primary_key=True),
        sa.Column("state", _Plain, primary_key=True),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox_minute",
        sa.Column("minute", sa.BigInteger, primary_key=True),
        sa.Column("node", _Plain, primary_key=True),
        sa.Column("what", _Plain, primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox_event",
        sa.Column("node", _Plain, primary_key=True),
        sa.Column("serial", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("changes", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _housekeeping() -> None:
    # ``node`` keeps house until ``until``; nobody does while it is empty, and ``until`` is when it is due again.
    # What was counted of messages that are forgotten now: all of them, and those that were accepted.
    kept = op.create_table(
        "housekeeping",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("forgotten", sa.BigInteger, nullable=False),
        sa.Column("forgotten_accepted", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(kept, [{"id": 1, "node": "", "until": 0, "forgotten": 0, "forgotten_accepted": 0}])


def _tune_postgresql() -> None:
    # By default a fifth of a table must be dead before it is vacuumed. The partial indexes that claims go by hold an
    # entry for each version of a message: with a million of records kept, 200,000 dead ones to step over.
    for table in ("message", "message_content", "message_recipient", "attempt", "submission_key", "outbox_event"):
        op.execute(
            f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,"
            " autovacuum_analyze_scale_factor = 0.05)"
        )
    # Rows that are updated over and over, in no indexed column: with room on their pages, the new version takes the
    # place of the last dead one, and neither index nor vacuum has anything to do.
    for table in ("outbox_tally", "outbox_minute", "outbox_sum", "node"):
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")
    # What is encrypted cannot be compressed; trying takes longer than storing it.
    op.execute("ALTER TABLE message_content ALTER COLUMN sealed SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE message_content SET (toast.autovacuum_vacuum_scale_factor = 0.05)")


def _index(name: str, *columns: str, where: str | None = None) -> None:
    only = None if where is None else sa.text(where)
    op.create_index(name, "message", list(columns), sqlite_where=only, postgresql_where=only)
