"""The OpenAPI documents, kept by hand: one for each version of the compatible API, and one for our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = ("keyfactor-v2", "keyfactor-v1", "keyrelay")

Document = dict[str, Any]


def load(name: str, base_path: str) -> Document:
    """One of the documents, with the compatible API at the path where it is here."""
    document: Document = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    for server in document["servers"]:
        server["url"] = server["url"].replace("/KeyfactorAPI", base_path)
    return document
