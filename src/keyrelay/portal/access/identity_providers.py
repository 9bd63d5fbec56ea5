"""Identity providers: those there are, a new one, and switching one off and on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from keyrelay import setting_values
from keyrelay.access import endpoints, identity_providers, provider_clients
from keyrelay.access.identity_provider import ClaimNames, Client, IdentityProvider
from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.api.answers import Answer
from keyrelay.errors import (
    IdentityProviderUnusable,
    KeyrelayError,
    NameTaken,
    PermissionMissing,
    UnknownName,
    Unsuitable,
)
from keyrelay.portal.access.outcome import done, refused
from keyrelay.portal.forms import Form
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.provider_sign_in import redirect_uri
from keyrelay.secrets.model import SecretText

_DONE = {
    "added": "The identity provider is added. Its tokens are accepted from now on.",
    "enabled": "The tokens of the identity provider are accepted again.",
    "disabled": "The tokens of the identity provider are accepted no more.",
    "removed": "The identity provider is removed.",
    "opened": "People sign in to the portal through it from now on.",
    "closed": "Nobody signs in to the portal through it any more.",
}
_FIELDS = ("scheme", "authority", "audience", "display_name", "claims")
_BLAMED = {NameTaken: "scheme", IdentityProviderUnusable: "authority", PermissionMissing: "scheme"}
# The words with which ``made`` begins to say what is wrong.
_BEGINNINGS = {
    "The scheme": "scheme",
    "The authority": "authority",
    "The audience": "audience",
    "The display name": "display_name",
    "The claims": "claims",
    "The client id": "client_id",
    "The client secret": "client_secret",
}


async def _list(asked: Asked) -> Answer:
    return await asked.show(
        "access_providers.html",
        providers=await asked.services.identity_providers.all(),
        done=done(asked, _DONE),
    )


async def _new(asked: Asked) -> Answer:
    return await _form(asked)


async def _form(asked: Asked, error: KeyrelayError | None = None) -> Answer:
    status, problem = (200, None) if error is None else refused(asked, error, _blamed(error))
    return await asked.show(
        "access_provider_new.html",
        status=status,
        problem=problem,
        typed={name: asked.form.text(name) for name in _FIELDS},
        unchecked=asked.form.has("unchecked"),
    )


def _blamed(error: KeyrelayError) -> dict[type[KeyrelayError], str]:
    fields = [field for words, field in _BEGINNINGS.items() if error.message.startswith(words)]
    return {**_BLAMED, **({Unsuitable: fields[0]} if fields else {})}


async def _add(asked: Asked) -> Answer:
    """The provider is asked for its keys first, unless somebody says not to."""
    form = asked.form
    try:
        provider = identity_providers.made(
            form.text("scheme"),
            authority=form.text("authority"),
            audience=form.text("audience"),
            display_name=form.text("display_name") or None,
            names=_names(form.text("claims")),
        )
        if not form.has("unchecked"):
            await endpoints.look(provider, asked.services.settings.ca_bundle)
        await asked.services.identity_providers.add(provider, asked.identity)
    except KeyrelayError as error:
        return await _form(asked, error)
    return asked.see("access/providers", done="added")


def _names(text: str) -> ClaimNames:
    try:
        return ClaimNames(**dict(setting_values.claim_names(" ".join(text.split()))))
    except ValueError as problem:
        raise Unsuitable(f"The claims {problem}.", remedy="Write them such as: name=upn,sub roles=groups") from None


async def _get(asked: Asked) -> Answer:
    return await _page(asked, await _provider(asked))


async def _page(asked: Asked, provider: IdentityProvider, error: KeyrelayError | None = None) -> Answer:
    status, problem = (200, None) if error is None else refused(asked, error, _blamed(error))
    form, client = asked.form, provider.client
    return await asked.show(
        "access_provider.html",
        status=status,
        problem=problem,
        provider=provider,
        names=provider.names.as_mapping(),
        typed={
            "client_id": form.text("client_id") if form.has("client_id") else "" if client is None else client.id,
            "public": form.has("public"),
            "unchecked": form.has("unchecked"),
        },
        redirect_uri=redirect_uri(asked.request, asked.services),
        done=done(asked, _DONE),
    )


async def _provider(asked: Asked) -> IdentityProvider:
    wanted = asked.request.path_params["id"]
    for provider in await asked.services.identity_providers.all():
        if provider.id == wanted:
            return provider
    raise UnknownName("There is no such identity provider.", remedy="Look at the list of them.")


async def _enable(asked: Asked) -> Answer:
    keeper = asked.services.identity_providers
    return await _switched(asked, lambda scheme: keeper.enable(scheme, asked.identity), "enabled")


async def _disable(asked: Asked) -> Answer:
    return await _switched(asked, asked.services.identity_providers.disable, "disabled")


async def _switched(asked: Asked, switch: Callable[[str], Awaitable[IdentityProvider]], told: str) -> Answer:
    provider = await _provider(asked)
    try:
        await switch(provider.scheme)
    except KeyrelayError as error:
        return await _page(asked, provider, error)
    return asked.see(f"access/providers/{provider.id}", done=told)


async def _open(asked: Asked) -> Answer:
    """People sign in to the portal through it, as this client; it is asked first whether that can work."""
    provider, form = await _provider(asked), asked.form
    try:
        client = _client(form, provider.client)
        if not form.has("unchecked"):
            await endpoints.look(replace(provider, client=client), asked.services.settings.ca_bundle)
        await asked.services.identity_providers.set_client(provider.scheme, client, asked.identity)
    except KeyrelayError as error:
        return await _page(asked, provider, error)
    return asked.see(f"access/providers/{provider.id}", done="opened")


def _client(form: Form, before: Client | None) -> Client:
    """The client as it is typed; what is not typed of it stays. Raises Unsuitable."""
    typed, public = form.raw("client_secret"), form.has("public")
    if typed and public:
        raise Unsuitable("The client secret of a public client is none.", remedy="Leave it empty, or untick the box.")
    client = provider_clients.checked(form.text("client_id"), SecretText(typed) if typed else None)
    return client if typed or public or before is None else replace(client, secret=before.secret)


async def _close(asked: Asked) -> Answer:
    keeper = asked.services.identity_providers
    return await _switched(asked, lambda scheme: keeper.set_client(scheme, None, asked.identity), "closed")


async def _remove(asked: Asked) -> Answer:
    provider = await _provider(asked)
    try:
        await asked.services.identity_providers.remove(provider.scheme)
    except KeyrelayError as error:
        return await _page(asked, provider, error)
    return asked.see("access/providers", done="removed")


PAGES = {
    "/access/providers": {"GET": Right(_list, READ_SECURITY)},
    "/access/providers/add": {"GET": Right(_new, MODIFY_SECURITY), "POST": Right(_add, MODIFY_SECURITY)},
    "/access/providers/{id}": {"GET": Right(_get, READ_SECURITY)},
    "/access/providers/{id}/enable": {"POST": Right(_enable, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/providers/{id}/disable": {"POST": Right(_disable, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/providers/{id}/open": {"POST": Right(_open, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/providers/{id}/close": {"POST": Right(_close, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/providers/{id}/remove": {"POST": Right(_remove, MODIFY_SECURITY, shows=READ_SECURITY)},
}
