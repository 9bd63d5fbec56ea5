"""Whom a node trusts, and which certificates of its own it shows, as the settings say."""

from __future__ import annotations

from keyrelay.network.trust import Trust
from keyrelay.settings import Settings


def check_certificates(settings: Settings) -> None:
    """Raise TrustUnusable now, which is better than when mail is due."""
    if settings.ca_bundle is not None or settings.relay_client_cert is not None:
        of_relays(settings).verified()
    if settings.vault_client_cert is not None:
        of_vaults(settings).verified()


def of_relays(settings: Settings) -> Trust:
    return Trust(
        authorities=settings.ca_bundle,
        client_certificate=settings.relay_client_cert,
        client_key=settings.relay_client_key,
    )


def of_vaults(settings: Settings) -> Trust:
    return Trust(
        authorities=settings.ca_bundle,
        client_certificate=settings.vault_client_cert,
        client_key=settings.vault_client_key,
    )
