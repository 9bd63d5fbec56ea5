"""The catalogue as a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from keyrelay.relay.causes import CAUSES, CHAPTERS
from keyrelay.relay.causes.model import Cause
from keyrelay.relay.model import STAGES

_SPECIAL = re.compile(r"\{(\w+)\}|[\\\\*_<>`\[\]]")
_INTRODUCTION = f"""\
# Causes

When a test or a delivery fails, keyrelay looks in this list for the cause: the first entry that fits is taken. Each
has a name that never changes, a sentence that says what is wrong, and what to do about it. Words in *italics* stand
for what belongs to your case, and parts in [brackets] appear when they are known. There are {len(CAUSES)}.
"""


def page(written_by: str) -> str:
    """docs/reference/causes.md; ``written_by`` is the remark that says how it is made."""
    title, _, introduction = _INTRODUCTION.partition("\n\n")
    parts = [f"{title}\n", f"{written_by}\n", introduction]
    for chapter, causes in CHAPTERS.items():
        parts.append(f"## {chapter}\n")
        for cause in causes:
            parts.extend(_entry(cause))
    return "\n".join(parts)


def _entry(cause: Cause) -> Iterator[str]:
    yield f"### {cause.id}\n"
    yield f"{_shown(cause.sentence)}\n"
    yield f"**What to do:** {_shown(cause.remedy)}\n"
    if cause.retry:
        yield "**Later:** trying again without a change can help.\n"
    yield f"**Found:** {_found(cause)}\n"
    if cause.more is not None:
        yield f"**More:** {cause.more}\n"


def _found(cause: Cause) -> str:
    """When the cause fits, as far as a person wants to know it."""
    at = "any stage" if cause.stages == STAGES else _listed(cause.stages)
    parts = [f"at {at}"]
    if cause.codes:
        parts.append("code " + _listed([f"{code}xx" if code < 10 else str(code) for code in cause.codes]))  # noqa: PLR2004
    if cause.enhanced:
        parts.append("status " + _listed([f"{code}…" if code.endswith(".") else code for code in cause.enhanced]))
    if cause.pattern is not None:
        parts.append("by the words of the answer")
    if cause.missing_role is not None:
        parts.append(f"the token has no role {cause.missing_role}")
    if cause.host is not None:
        parts.append("by the name of the host")
    if cause.ports:
        parts.append("port " + _listed([str(port) for port in cause.ports]))
    if cause.looks:
        parts.append("a look at the port finds " + _listed(cause.looks))
    if cause.sign_ins:
        parts.append("sign-in " + _listed([sign_in.replace("_", " ") for sign_in in cause.sign_ins]))
    return "; ".join(parts) + "."


def _listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _shown(template: str) -> str:
    """A template as text for people: its words in italics, and escaped what Markdown would read as its own."""
    return _SPECIAL.sub(lambda found: f"*{found[1].replace('_', ' ')}*" if found[1] else f"\\{found[0]}", template)
