"""The nodes that are alive: whether there are any, and whether they are of one version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from keyrelay import __version__
from keyrelay.health.finding import Finding, ok, warning
from keyrelay.outbox.overview import NodeAlive

_TOGETHER = "Bring all to the newest; they work together meanwhile."
_REMEDIES: Mapping[str, str] = {"command": "Use the command of the version that runs.", "node": _TOGETHER}


def nodes_found(found: tuple[NodeAlive, ...], here: Literal["command", "node"] = "command") -> Finding:
    """``here``: what it is that tells, and whose version is compared with theirs."""
    if not found:
        return warning("No server and no worker runs on this database.", "Start keyrelay serve.")
    versions = sorted({node.version for node in found})
    number = f"{len(found)} {'node is' if len(found) == 1 else 'nodes are'} alive"
    if len(versions) > 1:
        return warning(
            f"{number}, of the versions {', '.join(versions)}.",
            _TOGETHER,
        )
    if versions != [__version__]:
        return warning(
            f"{number}, of version {versions[0]}, and this {here} is of version {__version__}.",
            _REMEDIES[here],
        )
    return ok(f"{number}, of version {versions[0]}.")
