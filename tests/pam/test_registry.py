"""Which provider types there are: our own, and those of plug-ins that can be used."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from keyrelay.pam import backends, registry
from keyrelay.pam.backend import Parameter
from keyrelay.pam.backends.environment import Environment
from keyrelay.secrets.model import SecretText

SECRET = Parameter("Secret", "Secret", instance=True)
WORKING = """
from keyrelay.pam.backend import Parameter
from keyrelay.secrets.model import SecretText

class Safe:
    name = "Safe"
    parameters = (Parameter("Secret", "Secret", instance=True),)

    async def fetch(self, wanted, given, means):
        return SecretText("of " + wanted["Secret"])
"""


class Safe:
    name = "Local"
    parameters = (SECRET,)

    async def fetch(self, wanted, given, means):
        return SecretText("local")


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., None]:
    """Installs a package of one module whose entry point is its class ``Safe``, as pip would leave it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, code: str, place: str = "Safe", entry: str | None = None) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        told = tmp_path / f"{name}-1.0.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (told / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry or name} = {name}:{place}\n")
        importlib.invalidate_caches()

    return install


@pytest.fixture
def left_out(caplog) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level(logging.WARNING, registry.__name__)
    return lambda: [record.facts for record in caplog.records if record.msg == "A PAM plug-in is left out"]


def test_every_type_that_comes_with_keyrelay_is_there_and_is_a_back_end():
    backends = registry.load()
    assert {
        "Mounted-File",
        "Environment",
        "Hashicorp-Vault",
        "CyberArk-CentralCredentialProvider",
        "Delinea-SecretServer",
        "Azure-KeyVault",
        "Azure-KeyVault-ServicePrincipal",
        "GCP-SecretManager",
        "Akeyless",
        "BeyondTrust-PasswordSafe",
    } <= backends.keys()
    assert len(backends) >= len(registry._BUILT_IN), "two have one name"
    assert {name: registry.mistakes(backend) for name, backend in backends.items() if registry.mistakes(backend)} == {}
    assert all(name == backend.name for name, backend in backends.items())


def test_every_module_of_back_ends_is_in_the_table():
    found = {
        f"{found.name}:{name}"
        for found in pkgutil.iter_modules(backends.__path__)
        for module in [importlib.import_module(f"{backends.__name__}.{found.name}")]
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and isinstance(vars(kind).get("name"), str)
    }
    assert found == set(registry._BUILT_IN)


def test_what_needs_no_vault_imports_no_back_end():
    code = "import sys, json, keyrelay.pam.registry; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert [name for name in json.loads(ran.stdout) if name.startswith("keyrelay.pam.backends.")] == []


def test_a_back_end_that_needs_more_than_its_type_is_handed_in_and_nothing_can_be_added_later(install):
    install("takes_local", WORKING.replace('"Safe"', '"Local"'))
    mine = Safe()
    backends = registry.load(mine)
    assert backends["Local"] is mine
    with pytest.raises(TypeError):
        backends["More"] = mine


def test_each_call_makes_objects_of_its_own():
    assert registry.load()["Environment"] is not registry.load()["Environment"]


def test_a_plug_in_is_a_type_like_others(install, left_out):
    install("working", WORKING)
    assert type(registry.load()["Safe"]).__module__ == "working"
    assert left_out() == []


@pytest.mark.parametrize(
    ("code", "place", "why"),
    [
        ("import no_such_library", "Safe", "raises"),
        ("raise SystemExit(3)", "Safe", "raises"),
        ("def", "Safe", "raises"),
        ("", "Safe", "raises"),
        (WORKING, "Safe:Other", "raises"),
        (WORKING, "Safe.name", "raises"),
        ("class Safe:\n    def __init__(self, url): pass", "Safe", "raises"),
        ("class Safe:\n    name = property(lambda self: 1 / 0)", "Safe", "raises"),
        ("class Safe: pass", "Safe", "name"),
        (WORKING.replace("async def", "def"), "Safe", "async"),
        (WORKING.replace('"Safe"', '"environment"'), "Safe", "already"),
        (WORKING.replace('"Safe"', '"Environment"'), "Safe", "already"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_left_out_and_the_log_says_why(install, left_out, code, place, why):
    install("strange", code, place)
    install("working", WORKING)
    backends = registry.load()
    assert type(backends["Safe"]).__module__ == "working"
    assert type(backends["Environment"]) is Environment
    [facts] = left_out()
    assert why in facts["why"]
    assert (facts["plug_in"], facts["package"], facts["object"]) == ("strange", "strange", f"strange:{place}")


def test_of_two_plug_ins_with_one_name_always_the_same_one_is_left_out(install, left_out):
    install("later", WORKING, entry="b")
    install("sooner", WORKING, entry="a")
    assert type(registry.load()["Safe"]).__module__ == "sooner"
    assert [facts["package"] for facts in left_out()] == ["later"]


def test_metadata_that_nobody_can_read_costs_the_plug_ins_alone(monkeypatch, caplog):
    def broken(**_):
        raise TypeError("a line without =")

    monkeypatch.setattr(registry, "entry_points", broken)
    assert "Environment" in registry.load()
    assert "cannot be searched" in caplog.text


class Fetches:
    """What a back end consists of; each of the rows below spoils a part of it."""

    name: Any = "Fetches"
    parameters: Any = (SECRET, Parameter("Token", "Token", secret=True))

    async def fetch(self, wanted, given, means):
        return SecretText("a")


async def fetch_of_two(self, wanted, given):
    return SecretText("a")


async def fetch_of_other_names(self, wants, gives, ways):
    return SecretText("a")


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": " Fetches"}, "name"),
        ({"name": "Fetches\nmore"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"parameters": None}, "tuple"),
        ({"parameters": [SECRET]}, "tuple"),
        ({"parameters": ("Secret",)}, "tuple"),
        ({"parameters": ()}, "instance-level"),
        ({"parameters": (Parameter("Token", "Token"),)}, "instance-level"),
        ({"parameters": (SECRET, SECRET)}, "one name"),
        ({"parameters": (SECRET, Parameter("", "Token"))}, "display name"),
        ({"parameters": (SECRET, Parameter("Token", ""))}, "display name"),
        ({"parameters": (Parameter("Token", "Token", secret=True, instance=True),)}, "references are shown"),
        ({"parameters": (SECRET, Parameter("Url", "URL", default="https://a.example"))}, "has a default"),
        ({"fetch": None}, "async"),
        ({"fetch": lambda self, wanted, given, means: SecretText("a")}, "async"),
        ({"fetch": fetch_of_two}, "wanted, given and means"),
        ({"fetch": fetch_of_other_names}, "wanted, given and means"),
    ],
)
def test_what_keeps_an_object_from_being_a_back_end_is_said(spoilt, why):
    assert registry.mistakes(Fetches()) == []
    [told] = registry.mistakes(type("Spoilt", (Fetches,), spoilt)())
    assert why in told


def test_everything_that_is_wrong_is_said_at_once():
    assert len(registry.mistakes(object())) == 3
