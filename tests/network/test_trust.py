"""Who gets to see the certificate that is meant for relays."""

from __future__ import annotations

import ssl

import pytest

from keyrelay.network.trust import Trust
from relaying import certificates


def shown(context: ssl.SSLContext) -> bool:
    """Whether a server that asks for a client's certificate gets one."""
    made = certificates()
    asking = made.server_context(client_ca=True)
    asking.verify_mode = ssl.CERT_OPTIONAL
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = asking.wrap_bio(to_server, to_client, server_side=True)
    unfinished = [client, server]
    while unfinished:
        for side in list(unfinished):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(side)
    return bool(server.getpeercert(binary_form=True))


@pytest.mark.parametrize("loaded", [True, False], ids=["with a certificate", "without"])
def test_relays_see_our_certificate_and_token_endpoints_and_vaults_do_not(loaded):
    made = certificates()
    trust = Trust(
        authorities=made.authority,
        client_certificate=made.client_certificate if loaded else None,
        client_key=made.client_key if loaded else None,
    )
    assert [shown(trust.verified()), shown(trust.unverified()), shown(trust.for_http())] == [loaded, loaded, False]
