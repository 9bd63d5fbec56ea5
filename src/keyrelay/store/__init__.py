"""The database: one set of plain SQL statements, on SQLite or PostgreSQL.

Statements are written with ``$1`` parameters in the part of SQL that both engines share. A change runs in one
transaction and names the topics it touches; readers compare their topic's mark to learn that they are out of date.
"""
