"""Run by Alembic; the connection and its transaction come from schema.py."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=False,
    transactional_ddl=True,
)
context.run_migrations()
