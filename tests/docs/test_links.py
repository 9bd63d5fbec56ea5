"""Links in the Markdown pages lead somewhere, and the pages name nothing that is true of one machine only."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# Where people and build machines keep their things, and hosts that packages come from.
MACHINE = re.compile(r"(?<![\w.~-])/(work|root|home|Users|tmp|private|mnt)/|\b[A-Z]:\\", re.ASCII)
INDEX_HOST = re.compile(
    r"pypi|pythonhoste[d]|artifactory|nexus|devpi|registry\.npmjs|--(extra-)?index-url", re.IGNORECASE
)


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request) -> Path:
    return request.param


def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), target


def test_a_page_names_no_machines_path_and_no_package_index(page):
    text = page.read_text(encoding="utf-8")
    assert MACHINE.findall(text) == []
    assert INDEX_HOST.findall(text) == []


def test_every_decision_is_in_the_index_and_says_when_to_look_at_it_again():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(folder.glob("[0-9]*.md"))
    assert [record.name[:4] for record in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert f"]({record.name})" in index, record.name
        chapters = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert chapters == ["Context", "Choice", "Consequences", "When to revisit"], record.name


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosting sites make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
