"""``keyrelay serve`` and ``keyrelay worker``."""

from __future__ import annotations

import os
from pathlib import Path

from keyrelay import server, settings
from keyrelay.first_user import FIRST_USER
from keyrelay.setting_values import PREFIX


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    self_signed: bool = False,
    no_worker: bool = False,
) -> None:
    """Start the server. Options win over the KEYRELAY_ settings of the same name.

    Parameters
    ----------
    host
        Address to listen on. [KEYRELAY_HOST]
    port
        Port to listen on. [KEYRELAY_PORT]
    workers
        Server processes. [KEYRELAY_WORKERS]
    tls_cert
        PEM file with the certificate chain. [KEYRELAY_TLS_CERT]
    tls_key
        PEM file with its private key. [KEYRELAY_TLS_KEY]
    self_signed
        Speak https with a certificate made in the data directory. [KEYRELAY_SELF_SIGNED]
    no_worker
        Take messages in and send none: `keyrelay worker` does. [KEYRELAY_WORKER=no]
    """
    options = {"HOST": host, "PORT": port, "WORKERS": workers, "TLS_CERT": tls_cert, "TLS_KEY": tls_key}
    # In the environment, because further server processes read it there.
    os.environ.update({PREFIX + name: str(value) for name, value in options.items() if value is not None})
    if self_signed:
        os.environ["KEYRELAY_SELF_SIGNED"] = "yes"
    if no_worker:
        os.environ["KEYRELAY_WORKER"] = "no"
    server.serve(settings.read(os.environ), _announce)


def worker() -> None:
    """Send what waits in the outbox, until told to stop. Any number of these may run beside each other."""
    server.work(settings.read(os.environ), _announce_worker)


def _announce_worker(node: server.Node) -> None:
    print(f"keyrelay sends what waits  (data in {_data(node)})")
    _show_first_password(node)
    print("Stop with Ctrl+C.", flush=True)


def _show_first_password(node: server.Node) -> None:
    if node.first_password is not None:
        print(f"First start: user {FIRST_USER!r} was made with the password  {node.first_password.reveal()}")
        print("It is shown only now. Change it with: keyrelay user passwd admin")


def _announce(url: str, node: server.Node) -> None:
    print(f"keyrelay on {url}  (data in {_data(node)})")
    if node.settings.self_signed:
        from keyrelay.self_signed import authority_file

        print(f"To trust its certificate: curl --cacert {authority_file(node.settings.data_dir)}, or add that file to")
        print("your system's authorities; for Keyfactor's clients: KEYFACTOR_CA_CERT=<that file>.")
    _show_first_password(node)
    print("Stop with Ctrl+C.", flush=True)


def _data(node: server.Node) -> str:
    file = node.settings.sqlite_file
    return str(file) if file is not None else "PostgreSQL"
