"""What we call ourselves in EHLO."""

from __future__ import annotations

import socket
from typing import Any


def hello_name(wished: str | None, own: tuple[Any, ...] | None) -> str:
    """The operator's name for this machine, or its whole name, or its address (RFC 5321 section 4.1.4).

    ``own`` is the socket name of our end of the connection; None where nobody knows it any more.
    """
    if wished is not None:
        return wished
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    if own is None:
        return "[127.0.0.1]"
    return f"[IPv6:{own[0]}]" if ":" in own[0] else f"[{own[0]}]"
