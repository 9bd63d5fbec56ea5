"""The nodes that are alive: whether there are any, and whether they are of one version."""

from __future__ import annotations

from keyrelay import __version__
from keyrelay.health.finding import Finding, ok, warning
from keyrelay.outbox.overview import NodeAlive


def nodes_found(found: tuple[NodeAlive, ...]) -> Finding:
    if not found:
        return warning("No server and no worker runs on this database.", "Start keyrelay serve.")
    versions = sorted({node.version for node in found})
    number = f"{len(found)} {'node is' if len(found) == 1 else 'nodes are'} alive"
    if len(versions) > 1:
        return warning(
            f"{number}, of the versions {', '.join(versions)}.",
            "Bring all to the newest; they work together meanwhile.",
        )
    if versions != [__version__]:
        return warning(
            f"{number}, of version {versions[0]}, and this command is of version {__version__}.",
            "Use the command of the version that runs.",
        )
    return ok(f"{number}, of version {versions[0]}.")
