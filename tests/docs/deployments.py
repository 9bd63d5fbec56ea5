"""The files of docs/deploy, and the nodes that they state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import manifests
import pages

DEPLOY = pages.ROOT / "docs" / "deploy"
(COMPOSE,) = manifests.documents((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES = manifests.documents((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PAGE = pages.read("docs/scale-out.md")


@dataclass(frozen=True)
class Stated:
    """A node as a manifest has it. ``mounts``: which secret is in the file at a path."""

    command: list[str]
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    image: str
    grace: int
    probes: tuple[Any, ...] = ()
    before_stop: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


def of_compose(name: str) -> Stated:
    service = COMPOSE["services"][name]
    mounts = {f"/run/secrets/{secret}": secret for secret in service["secrets"]}
    probes = (service["healthcheck"]["test"],) if "healthcheck" in service else ()
    grace = int(service["stop_grace_period"].removesuffix("s"))
    return Stated(service["command"], service["environment"], mounts, service["image"], grace, probes)


def of_kubernetes(name: str) -> Stated:
    pod = named("Deployment", name)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    environment: dict[str, str] = {}
    for source in container["envFrom"]:
        environment |= named("ConfigMap", source["configMapRef"]["name"])["data"]
    environment |= {each["name"]: each["value"] for each in container.get("env", ())}
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["spec"]["volumes"]}
    mounts = {}
    for mount in container["volumeMounts"]:
        secret = secrets[mount["name"]]
        keys = ("tls.crt", "tls.key") if secret == "keyrelay-tls" else named("Secret", secret)["stringData"]
        mounts |= {f"{mount['mountPath']}/{key}": key for key in keys}
    probes = tuple(value for key, value in container.items() if key.endswith("Probe"))
    before_stop = int(container["lifecycle"]["preStop"]["exec"]["command"][1]) if "lifecycle" in container else 0
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    labels = pod["metadata"]["labels"]
    return Stated(container["args"], environment, mounts, container["image"], grace, probes, before_stop, labels)


def named(kind: str, name: str) -> Any:
    (found,) = (one for one in KUBERNETES if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


SETS = {
    "compose": (of_compose("server"), of_compose("worker")),
    "kubernetes": (of_kubernetes("keyrelay"), of_kubernetes("keyrelay-worker")),
}
