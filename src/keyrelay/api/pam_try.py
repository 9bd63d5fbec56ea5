"""``/api/v1/pam-providers/{id}/try``: whether a provider gives a secret, and never which one it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from keyrelay.access.permissions import READ_PAM
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.conventions import Fields, read_fields
from keyrelay.api.operations import Call, Operation, Resource, Services, Style, address_of, while_the_caller_waits
from keyrelay.api.pam import provider_number
from keyrelay.errors import BadInput
from keyrelay.pam import trying
from keyrelay.pam.model import Provider
from keyrelay.pam.trying import Trial
from keyrelay.secrets.model import FromPam

_PARAMETERS = 32


def resources(style: Style, services: Services) -> list[Resource]:
    operations = {"POST": Operation({1: _try}, READ_PAM + "{id}/")}
    return [Resource("/api/v1/pam-providers/{id}/try", operations, style, services)]


def trial_document(provider: Provider, trial: Trial) -> dict[str, Any]:
    """A trial as it is shown."""
    document = {"provider": provider.id, "type": provider.type.name, **asdict(trial)}
    document["milliseconds"] = round(trial.milliseconds, 1)
    return document


async def _try(call: Call) -> Answer:
    provider = await call.services.providers.provider(provider_number(call))
    fields = Fields(await read_fields(call.request, optional=True), {"parameters": "parameters"}, exact=True)
    reference = FromPam(provider.id, fields.parameters())
    if len(reference.parameters) > _PARAMETERS:
        fields.refuse("parameters", f"has more than {_PARAMETERS} members")
    if fields.violations:
        raise BadInput(tuple(fields.violations))
    trial = await tried(call, provider, reference)
    return Answer(200, json.dumps(trial_document(provider, trial), ensure_ascii=False).encode(), (JSON,))


async def tried(call: Call, provider: Provider, reference: FromPam) -> Trial:
    """Try it for the caller, and record it. Raises TooManyTests, ClientDisconnect, and what the store raises."""
    async with call.services.turnstile.turn(call.identity.name, address_of(call.request)):
        trial = await while_the_caller_waits(call.request, trying.attempt(call.services.vaults, reference))
    await call.services.providers.record_trial(provider, trial.verdict)
    return trial
