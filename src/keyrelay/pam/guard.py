"""Whatever the code of a provider type does, a secret comes of it, or a VaultFailed that can be told to anybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import get_args

from keyrelay.errors import KeyrelayError
from keyrelay.pam.backend import Means, Problem, VaultFailed
from keyrelay.pam.model import ProviderType
from keyrelay.secrets.model import SecretText

_log = logging.getLogger(__name__)
_PROBLEMS = frozenset(get_args(Problem))
_SECRET_CHARACTERS = 64 * 1024
_DETAIL_CHARACTERS = 300


async def guarded(
    kind: ProviderType, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means
) -> SecretText:
    """What the back end of a type gives, within ``means.seconds``.

    Raises VaultFailed, and for the local type what the store raises.
    """
    assert kind.backend is not None  # noqa: S101 - the caller has looked
    try:
        async with asyncio.timeout(means.seconds):
            text = await kind.backend.fetch(wanted, given, means)
    except TimeoutError:
        raise VaultFailed("timeout", f"no answer within {means.seconds:g} seconds") from None
    except VaultFailed as failure:
        problem = _told(kind, failure)
    except KeyrelayError:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        problem = _broken(kind, "CancelledError")  # something of its own was cancelled
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in may raise anything
        problem = _broken(kind, type(error).__name__)
    else:
        return _usable(kind, text)
    raise problem  # here, so that nothing is chained to it that may hold a secret


def _usable(kind: ProviderType, text: object) -> SecretText:
    revealed = text.reveal() if isinstance(text, SecretText) else None
    if not isinstance(text, SecretText) or not isinstance(revealed, str):
        raise VaultFailed("bad_answer", f"the back end of {kind.name} gave something else than a secret")
    if not revealed:
        raise VaultFailed("not_found", "the secret is there and empty")
    if len(revealed) > _SECRET_CHARACTERS:
        raise VaultFailed("bad_answer", f"the secret has more than {_SECRET_CHARACTERS} characters")
    return text


def _told(kind: ProviderType, failure: VaultFailed) -> VaultFailed:
    """The same failure, in one printable line."""
    if failure.problem not in _PROBLEMS:
        return _broken(kind, "VaultFailed, with a problem that is none")
    line = "".join(letter if letter.isprintable() else " " for letter in str(failure.detail))
    return VaultFailed(failure.problem, line[:_DETAIL_CHARACTERS])


def _broken(kind: ProviderType, error: str) -> VaultFailed:
    # Its words and its traceback stay out of the log: they may hold the secret.
    _log.error("A back end failed", extra={"facts": {"type": kind.name, "error": error}})
    return VaultFailed("bad_answer", f"the back end of {kind.name} failed ({error})")
