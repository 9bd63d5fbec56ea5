"""``keyrelay pam``: the providers that secrets come from."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from keyrelay.api.learned import shown
from keyrelay.api.pam_try import trial_document
from keyrelay.cli import pam_values, terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.pam import trying
from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.blocking import Library
from keyrelay.pam.model import Provider, ProviderDraft, ProviderType
from keyrelay.secrets.model import FromPam, Stored
from keyrelay.server import Node

app = App(name="pam")
app.command("keyrelay.cli.pam_entry:app", name="entry", help="The secrets that keyrelay itself keeps, for LocalDB.")

EXIT_CODES = {
    "found": 0,
    # 1 and 2 are those of commands that could not do their work, or were not understood.
    "not_found": 3,
    "denied": 4,
    "sealed": 5,
    "unreachable": 6,
    "timeout": 7,
    "bad_answer": 8,
    "parameter_missing": 9,
    "bad_parameter": 10,
    "extra_missing": 11,
}


@app.command
def types(*, json: AsJson = False) -> None:
    """List the provider types, and the parameters that each takes with the provider and with each use of it.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> list[ProviderType]:
        return (await node.providers.catalogue()).shown_types()

    kinds = terminal.with_node(work)
    if json:
        terminal.show_json([_type_document(kind) for kind in kinds])
        return
    rows = [{"kind": kind, "remark": _remark(kind)} for kind in kinds]
    columns = {
        "Type": lambda row: row["kind"].name + (f"\n  {row['remark']}" if row["remark"] else ""),
        "With the provider": lambda row: pam_values.parameters_text(row["kind"], instance=False),
        "With each use": lambda row: pam_values.parameters_text(row["kind"], instance=True),
    }
    terminal.show(rows, columns, as_json=False)
    print("* is secret; [ ] may be left out.")


@app.command(name="list")
def list_providers(*, json: AsJson = False) -> None:
    """List the providers. Values that are secret show only that they are there.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> list[Provider]:
        return list((await node.providers.catalogue()).providers.values())

    documents = [_provider_document(provider) for provider in terminal.with_node(work)]
    columns = {
        "Id": lambda row: str(row["id"]),
        "Provider": lambda row: row["name"],
        "Type": lambda row: row["type"],
        "Values": lambda row: "\n".join(f"{name} {_readable(value)}" for name, value in row["values"].items()),
        "": lambda row: "remote" if row["remote"] else "",
    }
    terminal.show(documents, columns, as_json=json)


@app.command
def add(
    name: str,
    *,
    type_: Annotated[str, Parameter(name="--type")],
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    set_secret: list[str] | None = None,
) -> None:
    """Add a provider. Secret values are asked for, or read from files or standard input, and are never arguments.

    Parameters
    ----------
    name
        What to call it.
    type_
        Its type, such as Hashicorp-Vault; keyrelay pam types lists them.
    set_
        A parameter and its value, such as Host=https://vault.example.org. May be given several times.
    set_secret
        A secret parameter: Token asks for it, Token=@FILE reads a file, Token=- reads standard input. May be given
        several times.
    """

    async def work(node: Node) -> Provider:
        kind = pam_values.type_of(await node.providers.catalogue(), type_)
        values = pam_values.for_provider(kind, set_ or (), set_secret or ())
        return await node.providers.add(ProviderDraft(name=name, type_id=kind.id, values=values))

    provider = terminal.with_node(work)
    print(f"Provider {shown(provider.name)} added; its number is {provider.id}.")


@app.command
def remove(provider: str) -> None:
    """Remove a provider, with its entries. One that the profile uses cannot be removed.

    Parameters
    ----------
    provider
        Its name or number.
    """

    async def work(node: Node) -> Provider:
        found = pam_values.provider_of(await node.providers.catalogue(), provider)
        await node.providers.remove(found.id)
        return found

    print(f"Provider {shown(terminal.with_node(work).name)} removed.")


@app.command(name="try")
def try_(provider: str, *, param: list[str] | None = None, json: AsJson = False) -> None:
    """Look whether a provider gives a secret, how long that takes, and why not. The secret itself is never shown.

    Exit code 0 when it is found, 3 not found, 4 denied, 5 sealed, 6 unreachable, 7 no answer in time, 8 an answer that
    is none, 9 a parameter is missing, 10 a parameter cannot be used, 11 a library is missing.

    Parameters
    ----------
    provider
        Its name or number.
    param
        A parameter that says which secret, such as SecretName=smtp. May be given several times.
    json
        Print JSON.
    """
    parameters: dict[str, str | None] = dict(pam_values.pairs("--param", param or ()))

    async def work(node: Node) -> dict[str, Any]:
        found = pam_values.provider_of(await node.providers.catalogue(), provider)
        trial = await trying.attempt(node.vaults, FromPam(found.id, parameters))
        await node.providers.record_trial(found, trial.verdict)
        return trial_document(found, trial)

    trial = terminal.with_node(work)
    if json:
        terminal.show_json(trial)
    else:
        _show_trial(trial)
    raise SystemExit(EXIT_CODES[trial["verdict"]])


def _show_trial(trial: dict[str, Any]) -> None:
    verdict = trial["verdict"].replace("_", " ").capitalize()
    print(f"{verdict} after {trial['milliseconds']:.1f} ms. {trial['sentence']}")
    if trial["detail"]:
        print(f"In detail: {shown(trial['detail'])}")
    if trial["remedy"]:
        print(f"What to do: {trial['remedy']}")


def _type_document(kind: ProviderType) -> dict[str, Any]:
    parameters = [
        {
            "name": one.name,
            "display_name": one.display_name,
            "secret": one.secret,
            "with_each_use": one.instance,
            "required": one.required,
            "default": one.default,
        }
        for one in kind.parameters
    ]
    usable = kind.backend is not None
    return {"id": kind.id, "name": kind.name, "parameters": parameters, "usable": usable, "install": _install(kind)}


def _remark(kind: ProviderType) -> str:
    install = _install(kind)
    if install is not None:
        return f"needs: {install}"
    return "no plug-in for it is installed" if kind.backend is None else ""


def _install(kind: ProviderType) -> str | None:
    """The command that installs what a type needs, where that is missing."""
    library = getattr(kind.backend, "library", None)
    if not isinstance(library, Library):
        return None
    try:
        library.load()
    except VaultFailed as missing:
        return missing.detail
    return None


def _provider_document(provider: Provider) -> dict[str, Any]:
    values = {
        name: {"stored": True, "given_at": value.given_at.isoformat()} if isinstance(value, Stored) else value
        for name, value in provider.values.items()
    }
    kind = provider.type.name
    return {"id": provider.id, "name": provider.name, "type": kind, "remote": provider.remote, "values": values}


def _readable(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else f"stored since {value['given_at'][:10]}"
