"""Pieces of SQL whose length depends on how many values there are."""

from __future__ import annotations

from collections.abc import Sized


def places(values: Sized, first: int = 1) -> str:
    """The places of so many parameters, from ``$first`` on, as IN wants them."""
    return ", ".join(f"${at}" for at in range(first, first + len(values)))


def groups(rows: int, columns: int) -> str:
    """The places of the parameters of so many rows, as VALUES wants them."""
    return ", ".join(f"({places(range(columns), 1 + row * columns)})" for row in range(rows))
