"""A name server on loopback that says what a test wants it to say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Records = Mapping[tuple[str, str], list[str] | str]
"""By name and type: the records as a zone file has them, or SERVFAIL, or SILENT for no answer at all."""


@dataclass
class DnsServer:
    """Answers over UDP from what it is told. ``address`` is its ADDRESS:PORT; ``asked`` the questions so far."""

    address: str
    records: Records
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, question: bytes) -> bytes | None:
        query = dns.message.from_wire(question)
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append((name, kind))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        said = self.records.get((name, kind), [])
        if said == "SILENT":
            return None
        if said == "SERVFAIL":
            response.set_rcode(dns.rcode.SERVFAIL)
        elif said:
            response.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *said))
        elif not any(owner == name or owner.endswith("." + name) for owner, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire(max_size=65535)


@contextmanager
def dns_server(records: Records) -> Iterator[DnsServer]:
    """Run a name server until the end of the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        server = DnsServer("127.0.0.1:{1}".format(*listener.getsockname()), records)
        thread = threading.Thread(target=_serve, args=(listener, server))
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"", listener.getsockname())
            thread.join(10)


def _serve(listener: socket.socket, server: DnsServer) -> None:
    while True:
        question, client = listener.recvfrom(65535)
        if not question:
            return
        if (response := server.answer(question)) is not None:
            listener.sendto(response, client)
