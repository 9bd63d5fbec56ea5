"""The glossary: each word once, in the order in which it is looked up."""

from __future__ import annotations

from pathlib import Path

GLOSSARY = Path(__file__).parents[2] / "docs/glossary.md"


def words() -> list[str]:
    rows = [line for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def test_each_word_has_one_meaning():
    found = [word.casefold() for word in words()]
    assert len(found) > 50
    assert sorted(found) == sorted(set(found))


def test_words_stand_in_their_order():
    found = [word.casefold() for word in words()]
    assert found == sorted(found)
