"""Entity tags, and the conditions that callers set with them (RFC 9110 section 13)."""

from __future__ import annotations

import re

_QUOTED = re.compile(r'(W/)?"([^"]*)"')


def entity_tag(tag: str, variant: str) -> str:
    """The strong entity tag (RFC 9110 section 8.8.3) of one representation of a revision."""
    return f'"{tag}{variant}"'


def none_match(header: str | None, current: str) -> bool:
    """Whether If-None-Match says that the caller has this representation already (RFC 9110 section 13.1.2)."""
    return header is not None and (
        header.strip() == "*" or current.strip('"') in {tag for _, tag in _QUOTED.findall(header)}
    )


def match(header: str | None, tag: str) -> bool:
    """Whether If-Match allows a change of this revision (RFC 9110 section 13.1.1); any representation of it will do."""
    if header is None or header.strip() == "*":
        return True
    strong = {text for weak, text in _QUOTED.findall(header) if not weak}
    return bool(strong & {tag, f"{tag}-v1", f"{tag}-v2"})
