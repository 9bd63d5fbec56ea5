"""Why the token endpoint was not reached, or not trusted. Never the relay's fault, so the endpoint is named."""

from __future__ import annotations

from keyrelay.relay.causes.model import Cause

TOKEN_NETWORK: tuple[Cause, ...] = (
    Cause(
        id="token-host-unknown",
        stages=("token",),
        kinds=("name_unknown", "no_address"),
        sentence="The host of the token endpoint, {endpoint}, cannot be found in DNS. The relay was not asked yet.",
        remedy="Check the spelling of TokenEndpoint. For Microsoft it is "
        "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token (national clouds have their own host).",
    ),
    Cause(
        id="token-dns-unavailable",
        stages=("token",),
        kinds=("dns_unavailable",),
        sentence="The host of the token endpoint, {endpoint}, could not be looked up: no name server gave an answer.",
        remedy="Check DNS on the machine keyrelay runs on (/etc/resolv.conf, port 53 in the firewall).",
        retry=True,
    ),
    Cause(
        id="token-name-waits-for-others",
        stages=("token",),
        kinds=("dns_busy",),
        sentence="The host of the token endpoint, {endpoint}, was not looked up: keyrelay waits for name servers about "
        "so many other names that it asks for no more.",
        remedy="Check DNS on the machine keyrelay runs on (/etc/resolv.conf, port 53 in the firewall): it leaves many "
        "names without an answer. Then try again.",
        retry=True,
    ),
    Cause(
        id="token-connection-refused",
        stages=("token",),
        kinds=("refused",),
        sentence="The token endpoint {endpoint} refused the connection: nobody listens there.",
        remedy="Check host and port of TokenEndpoint, and that the identity server runs.",
        retry=True,
    ),
    Cause(
        id="token-unreachable",
        stages=("token",),
        kinds=("unreachable", "forbidden"),
        sentence="There is no way from this machine to the token endpoint {endpoint}.",
        remedy="Allow HTTPS (TCP 443) from this machine to {endpoint} in firewall, routes and network policy.",
        retry=True,
    ),
    Cause(
        id="token-timed-out",
        stages=("token",),
        kinds=("timeout",),
        sentence="The token endpoint {endpoint} did not answer[ within {seconds} seconds]. Mail itself may well be "
        "open while HTTPS to the outside is not.",
        remedy="Allow HTTPS (TCP 443) from this machine to {endpoint}: most often a firewall drops it.",
        retry=True,
    ),
    Cause(
        id="token-connection-closed",
        stages=("token",),
        kinds=("closed",),
        sentence="The token endpoint {endpoint} closed the connection without an answer.",
        remedy="Try again later. If it stays, a firewall or proxy cuts connections to {endpoint}: ask your network "
        "team.",
        retry=True,
    ),
    Cause(
        id="token-endpoint-without-tls",
        stages=("token",),
        kinds=("not_tls",),
        sentence="The token endpoint {endpoint} does not speak TLS on the port that TokenEndpoint names.",
        remedy="Check the port in TokenEndpoint: 443 is usual for https, and 8443 for many identity servers.",
    ),
    Cause(
        id="token-certificate-dates",
        stages=("token",),
        kinds=("expired", "not_yet_valid"),
        sentence="The certificate of the token endpoint {endpoint} is not valid today[ ({days} off)].",
        remedy="Check date and time of this machine (timedatectl). If they are right, the token endpoint needs a new "
        "certificate.",
    ),
    Cause(
        id="token-certificate-name",
        stages=("token",),
        kinds=("name_mismatch",),
        sentence="The certificate of the token endpoint is not for the name {endpoint}[, but for: {names}].",
        remedy="Use in TokenEndpoint a name that stands on the certificate.",
    ),
    Cause(
        id="token-certificate-issuer",
        stages=("token",),
        kinds=("unknown_issuer", "self_signed"),
        sentence="keyrelay does not trust the certificate of the token endpoint {endpoint}[, issued by {issuer}].",
        remedy="If it is your own authority, or your web proxy reads HTTPS, save its root certificate as a PEM file, "
        "name the file in KEYRELAY_CA_BUNDLE and restart keyrelay.",
    ),
    Cause(
        id="token-tls-failed",
        stages=("token",),
        kinds=("weak", "client_certificate", "certificate", "handshake"),
        sentence="TLS with the token endpoint {endpoint} failed[: {detail}].",
        remedy="The endpoint must offer TLS 1.2 or newer, and a certificate in order. Check also whether a proxy "
        "stands in between.",
    ),
)
