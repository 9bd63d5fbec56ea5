"""A secret source becomes a SecretText at the moment of use, and not before."""

from __future__ import annotations

from keyrelay.errors import UnknownReference, Violation
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import GivenSecret, SecretText, Stored
from keyrelay.store.model import Reader


async def resolve(reader: Reader, keyring: Keyring, source: GivenSecret, *, field: str, destination: str) -> SecretText:
    """The secret itself, to be used as ``field`` and sent to ``destination``, and for nothing else."""
    match source:
        case SecretText():
            return source
        case Stored():
            return await stored.reveal(reader, keyring, source, field=field, destination=destination)
        case _:
            raise UnknownReference(
                (Violation("provider", "unknown_reference", f"PAM provider {source.provider} does not exist."),)
            )
