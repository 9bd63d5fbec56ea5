"""AWS Secrets Manager."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, anything, ask, base_url, clear, header_value, members, require_success, secret
from keyrelay.pam.backend import Means, Parameter, Problem, VaultFailed
from keyrelay.pam.blocking import Library, in_thread
from keyrelay.pam.sign_ins import Lease, SignIns
from keyrelay.secrets.model import SecretText

_LIBRARY = Library("botocore.session", "aws")
_SERVICE = "secretsmanager"
_KIND = "application/x-amz-json-1.1"
_TARGET = "secretsmanager.GetSecretValue"
_REGION = re.compile(r"[a-z]{2,10}(-[a-z0-9]{1,20}){1,4}")
_LIFE = 300.0  # of what the chain gave; a machine's role has new credentials that long before the old ones end
_READING = "reading the secret"

# "GetSecretValue" and "Common Error Types" of the API reference; nearly all of them come with status 400.
_ERRORS: dict[str, tuple[Problem, str]] = {
    "ResourceNotFoundException": ("not_found", "there is no such secret, or no such version of it"),
    "InvalidRequestException": ("not_found", "the secret is marked for deletion, or has no value"),
    "InvalidParameterException": ("bad_parameter", "SecretId or VersionStage is not one"),
    "ValidationException": ("bad_parameter", "SecretId or VersionStage is not one"),
    "ValidationError": ("bad_parameter", "SecretId or VersionStage is not one"),
    "DecryptionFailure": ("denied", "the KMS key does not decrypt it for this identity"),
    "AccessDeniedException": ("denied", "this identity may not read it (secretsmanager:GetSecretValue)"),
    "UnrecognizedClientException": ("denied", "the access key is not known"),
    "InvalidClientTokenId": ("denied", "the access key is not known"),
    "InvalidSignatureException": ("denied", "the secret access key is wrong, or this machine's clock is"),
    "SignatureDoesNotMatch": ("denied", "the secret access key is wrong, or this machine's clock is"),
    "RequestExpired": ("denied", "this machine's clock is wrong"),
    "ExpiredTokenException": ("denied", "the credentials have expired"),
    "ExpiredToken": ("denied", "the credentials have expired"),
    "IncompleteSignature": ("denied", "the signature is not complete"),
    "IncompleteSignatureException": ("denied", "the signature is not complete"),
    "MissingAuthenticationToken": ("denied", "the signature is missing"),
    "MissingAuthenticationTokenException": ("denied", "the signature is missing"),
    "NotAuthorized": ("denied", "this identity may not read it"),
    "OptInRequired": ("denied", "the account may not use this service or region"),
    "ThrottlingException": ("sealed", "it wants fewer requests"),
    "Throttling": ("sealed", "it wants fewer requests"),
    "TooManyRequestsException": ("sealed", "it wants fewer requests"),
    "RequestLimitExceeded": ("sealed", "it wants fewer requests"),
    "InternalServiceError": ("sealed", "a fault of its own"),
    "InternalFailure": ("sealed", "a fault of its own"),
    "ServiceUnavailable": ("sealed", "it is not available"),
    "ServiceUnavailableException": ("sealed", "it is not available"),
}


class AwsSecrets:
    """A secret of AWS Secrets Manager, or one member of it where it is a JSON object.

    POST to the region's endpoint, or to ``Endpoint``, with X-Amz-Target secretsmanager.GetSecretValue ("GetSecretValue"
    of the AWS Secrets Manager API reference, version 2017-10-17), signed with Signature Version 4. Takes
    ``SecretString``, or ``SecretBinary`` where that is text. botocore signs, and finds the credentials of this machine
    (environment, shared files, web identity, SSO, container, instance role) unless the provider has a key of its own.
    """

    name: ClassVar[str] = "AWS-SecretsManager"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Region", "AWS Region"),
        Parameter("AccessKeyId", "Access Key ID", secret=True, required=False),
        Parameter("SecretAccessKey", "Secret Access Key", secret=True, required=False),
        Parameter("Endpoint", "Endpoint URL", required=False),
        Parameter("SecretId", "Secret ID or ARN", instance=True),
        Parameter("Key", "Member of a JSON Secret", instance=True, required=False),
        Parameter("VersionStage", "Version Stage", instance=True, required=False),
    )
    library: ClassVar[Library] = _LIBRARY

    def __init__(self) -> None:
        self._sign_ins = SignIns()

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        region = clear(given["Region"])
        if not _REGION.fullmatch(region):
            raise VaultFailed("bad_parameter", "Region is not one such as eu-central-1")
        endpoint = base_url(clear(given["Endpoint"]), "Endpoint", means) if "Endpoint" in given else None
        own = _own_keys(given)
        asked = {name: wanted[name] for name in ("SecretId", "VersionStage") if name in wanted}
        body = Body(json.dumps(asked).encode(), _KIND)

        async def sign_in() -> Lease:
            return await in_thread(lambda: _chain(means))

        async def read(keys: SecretText) -> HttpAnswer:
            # In a thread, because what botocore needs for it is read from files at first.
            url, headers = await in_thread(lambda: _signed(region, endpoint, body, keys))
            return _told(await ask("POST", url, means, headers=headers, body=body))

        try:
            async with asyncio.timeout(means.seconds):
                answer = await (self._sign_ins.ask({}, sign_in, read) if own is None else read(own))
        except TimeoutError:
            raise VaultFailed("timeout", f"no secret within {means.seconds:g} seconds") from None
        _require_success(answer)
        return _value(members(answer, _READING), wanted.get("Key"))


def _own_keys(given: Mapping[str, SecretText | str]) -> SecretText | None:
    """The keys that the provider has of its own, as JSON; None where it has none."""
    names = [name for name in ("AccessKeyId", "SecretAccessKey") if name in given]
    if not names:
        return None
    if len(names) == 1:
        raise VaultFailed("parameter_missing", "AccessKeyId and SecretAccessKey are given together, or not at all")
    return SecretText(json.dumps([header_value(given["AccessKeyId"], "AccessKeyId"), clear(given["SecretAccessKey"])]))


def _chain(means: Means) -> Lease:
    """The keys that botocore's chain finds, as JSON; blocks. Raises VaultFailed."""
    _hush()
    core, config, errors = (_LIBRARY.load(f"botocore.{module}") for module in ("session", "config", "exceptions"))
    session = core.Session()
    seconds = max(1.0, means.seconds / 2)
    # For the tokens that some ways of the chain exchange for keys.
    session.set_default_client_config(
        config.Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
    )
    try:
        credentials = session.get_credentials()
        keys = None if credentials is None else credentials.get_frozen_credentials()
    except (errors.EndpointConnectionError, errors.ConnectionClosedError, errors.ProxyConnectionError):
        raise VaultFailed("unreachable", "what gives this machine its credentials is away") from None
    except (errors.ConnectTimeoutError, errors.ReadTimeoutError):
        raise VaultFailed("timeout", "what gives this machine its credentials is silent") from None
    except (errors.BotoCoreError, errors.ClientError):
        raise VaultFailed("denied", "a way of botocore's chain failed to give credentials") from None
    if keys is None:
        raise VaultFailed("denied", "no way of botocore's chain gave credentials")
    told = [keys.access_key, keys.secret_key, *([keys.token] if keys.token else [])]
    return Lease(SecretText(json.dumps(told)), _LIFE)


def _signed(region: str, endpoint: str | None, body: Body, keys: SecretText) -> tuple[str, list[tuple[str, str]]]:
    """The URL to ask, and the headers that sign the request."""
    _hush()
    auth, requests, credentials = (
        _LIBRARY.load(f"botocore.{module}") for module in ("auth", "awsrequest", "credentials")
    )
    url = f"{endpoint or _endpoint(region)}/"
    headers = {"Content-Type": _KIND, "X-Amz-Target": _TARGET}
    request = requests.AWSRequest("POST", url, data=body.content, headers=headers)
    auth.SigV4Auth(credentials.Credentials(*json.loads(keys.reveal())), _SERVICE, region).add_auth(request)
    return url, list(request.headers.items())


def _endpoint(region: str) -> str:
    for partition in _LIBRARY.load("botocore.loaders").create_loader().load_data("partitions")["partitions"]:
        if re.match(partition["regionRegex"], region):
            return f"https://{_SERVICE}.{region}.{partition['outputs']['dnsSuffix']}"
    raise VaultFailed("bad_parameter", "Region is not one that botocore knows; give the Endpoint too")


def _hush() -> None:
    # Its debug lines hold session tokens and what sign-ins answered.
    core = logging.getLogger("botocore")
    if core.getEffectiveLevel() < logging.INFO:
        core.setLevel(logging.INFO)


def _told(answer: HttpAnswer) -> HttpAnswer:
    """The answer with status 403 for what AWS calls 400 although it refuses who asks."""
    problem, _ = _ERRORS.get(_error(answer), (None, ""))
    return replace(answer, status=403) if problem == "denied" else answer


def _require_success(answer: HttpAnswer) -> None:
    name = _error(answer)
    if name in _ERRORS:
        problem, words = _ERRORS[name]
        raise VaultFailed(problem, f"{_READING}: {name}, {words}")
    require_success(answer, _READING)


def _error(answer: HttpAnswer) -> str:
    """The error's name, without the namespace and the URL that may stand around it; empty where there is none."""
    if answer.status < 400:  # noqa: PLR2004 - RFC 9110 section 15.5
        return ""
    try:
        said: Any = anything(answer, _READING)
    except VaultFailed:
        said = None
    kind = said.get("__type") if isinstance(said, dict) else None
    kind = kind if isinstance(kind, str) else answer.headers.get("x-amzn-errortype", "")
    return kind.partition(":")[0].rpartition("#")[2]


def _value(said: Mapping[str, Any], key: str | None) -> SecretText:
    text = said.get("SecretString")
    if text is None and said.get("SecretBinary") is not None:
        try:
            text = base64.b64decode(said["SecretBinary"], validate=True).decode()
        except (binascii.Error, ValueError, TypeError):
            raise VaultFailed("bad_answer", "the secret is binary, and no text") from None
    found = secret(text, "the secret")
    return found if key is None else _member(found, key)


def _member(found: SecretText, key: str) -> SecretText:
    try:
        value = json.loads(found.reveal())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise VaultFailed("not_found", "the secret is no JSON object, so it has no member Key")
    if key not in value:
        raise VaultFailed("not_found", "the secret has no member of the name in Key")
    return secret(value[key], "the member")
