"""What will happen on the wire, in words, for a port and the switch UseSSL (contract 2.5 and P8)."""

from __future__ import annotations

from keyrelay.profile.model import SUBMISSIONS_PORT, TransportSecurity


def in_words(port: int, *, use_ssl: bool, signs_in: bool, allow_insecure: bool = False) -> str:
    """Sentences for the person who chooses. ``allow_insecure``: the setting KEYRELAY_ALLOW_INSECURE_SIGN_IN."""
    match TransportSecurity.of(port, use_ssl=use_ssl):
        case TransportSecurity.IMPLICIT_TLS:
            begins = (
                f"TLS from the first byte, as port {SUBMISSIONS_PORT} speaks it: nothing crosses the network in clear."
            )
            return f"{begins} {_verified(allow_insecure=allow_insecure)}"
        case TransportSecurity.STARTTLS_REQUIRED:
            begins = (
                "The connection begins in clear and is encrypted with STARTTLS before anything else is said. A relay "
                "that does not offer STARTTLS gets neither sign-in nor mail."
            )
            return f"{begins} {_verified(allow_insecure=allow_insecure)}"
        case TransportSecurity.STARTTLS_WHEN_OFFERED:
            return " ".join(filter(None, (_opportunistic(signs_in, allow_insecure), _odd_port(port))))


def _verified(*, allow_insecure: bool) -> str:
    if allow_insecure:
        return "The certificate may be a wrong one: KEYRELAY_ALLOW_INSECURE_SIGN_IN is set."
    return "The relay's certificate has to be valid and in its name."


def _opportunistic(signs_in: bool, allow_insecure: bool) -> str:  # noqa: FBT001 - what the sentences depend on
    begins = "STARTTLS when the relay offers it; otherwise "
    if not signs_in:
        return begins + "mail crosses the network in clear. Without a sign-in, no certificate is too bad."
    if allow_insecure:
        return (
            begins + "mail and credentials cross the network in clear, because KEYRELAY_ALLOW_INSECURE_SIGN_IN is set."
        )
    return (
        begins + "keyrelay does not sign in, and no mail goes out: credentials cross only a connection whose "
        "certificate was verified."
    )


def _odd_port(port: int) -> str | None:
    if port != SUBMISSIONS_PORT:
        return None
    return f"Most relays speak TLS at once on port {SUBMISSIONS_PORT} and do not answer this; switch TLS on for them."
