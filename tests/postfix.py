"""A Postfix of our own: it listens on loopback, keeps what it accepts, and sends nothing anywhere."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import trustme

DOMAIN = "example.org"
REFUSED = f"nobody-here@{DOMAIN}"
SIZE_LIMIT = 200_000
_HOST = "127.0.0.1"
_OWNER = "postfix"
_PATIENCE = 20.0
_TRIES = 3
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_MECHANISM = "sasl2/liblogin.so"

_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
mail_owner = {owner}

myhostname = relay.example.org
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
disable_dns_lookups = yes
relayhost =
default_transport = error:nothing leaves this machine
relay_transport = error:nothing leaves this machine
local_transport = error:nobody lives here
alias_maps =
alias_database =

virtual_mailbox_domains = {domain}
virtual_mailbox_maps = regexp:{directory}/config/mailboxes
virtual_mailbox_base = {directory}
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:{user}
virtual_gid_maps = static:{group}

smtpd_relay_restrictions = reject_unauth_destination
message_size_limit = {size_limit}
smtpd_error_sleep_time = 0s
smtpd_client_connection_count_limit = 0
in_flow_delay = 0s

smtpd_tls_chain_files = {directory}/server.pem
smtpd_tls_auth_only = yes
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {directory}/config/sasl
"""

_MASTER = """
127.0.0.1:{plain} inet n - n - - smtpd
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{submissions} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
"""

# Everybody else of the domain has the one mailbox.
_MAILBOXES = """
if !/^nobody-here@/
/@example\\.org$/ mail/
endif
"""

_SASL = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {file}
mech_list: PLAIN LOGIN
"""


@dataclass(frozen=True)
class Postfix:
    """One running relay with three doors.

    ``plain_port`` offers neither TLS nor AUTH, and takes mail for example.org from everybody. ``submission_port`` wants
    STARTTLS first, ``submissions_port`` speaks TLS from the first byte, and both then want ``user`` to sign in with
    PLAIN or LOGIN. ``authority`` is the certificate (a PEM file) of who issued the relay's own, which is for localhost,
    127.0.0.1 and relay.example.org. REFUSED is answered 550 5.1.1, another domain than example.org 554 5.7.1, and more
    than SIZE_LIMIT bytes 552 5.3.4.
    """

    directory: Path
    plain_port: int
    submission_port: int
    submissions_port: int
    password: str
    user: str = f"mailer@{DOMAIN}"
    host: str = _HOST

    @staticmethod
    def missing() -> str | None:
        """The one line that enables starting one here, with the reason; None when nothing is missing."""
        installed = all(_program(name) for name in ("postfix", "saslpasswd2")) and (
            any(Path("/usr/lib").glob(f"*/{_MECHANISM}")) or Path("/usr/lib64", _MECHANISM).exists()
        )
        if not installed:
            packages = "postfix sasl2-bin libsasl2-modules"
            return f"Postfix or SASL is not installed; to run these tests: apt-get install {packages}"
        if os.geteuid() != 0:
            return "Postfix must be started by root; to run these tests: sudo make test"
        return None

    @classmethod
    def start(cls) -> Postfix:
        for _ in range(_TRIES - 1):
            with suppress(_NotStarted):
                return cls._start()
        return cls._start()

    @classmethod
    def _start(cls) -> Postfix:
        # Not below pytest's own directory, which only its owner may enter: Postfix works as several users.
        directory = Path(tempfile.mkdtemp(prefix="keyrelay-postfix-"))
        directory.chmod(0o755)
        relay = cls(directory, *_free_ports(), secrets.token_urlsafe(12))
        try:
            relay._configure()
            relay._certify()
            relay._keep_password()
            _run("postfix", "-c", directory / "config", "start", log=directory / "log")
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return relay

    @property
    def authority(self) -> Path:
        return self.directory / "authority.pem"

    def stop(self) -> None:
        master = int((self.directory / "queue/pid/master.pid").read_text())
        try:
            os.killpg(master, signal.SIGTERM)
            _wait_until(lambda: not _alive(master), "Postfix did not stop")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def messages(self, recipient: str | None = None) -> list[bytes]:
        """What was delivered, oldest first: to everybody, or to one address.

        Waits until all that was accepted is delivered. Postfix puts header fields of its own first, one of them being
        ``Delivered-To``, and ends lines with LF alone.
        """
        _wait_until(lambda: not self._waiting(), "Postfix did not deliver")
        files = sorted((self.directory / "mail/new").glob("*"), key=_age)
        line = f"\nDelivered-To: {recipient or ''}".encode() + (b"\n" if recipient else b"")
        return [content for content in (file.read_bytes() for file in files) if line in content]

    def log(self) -> str:
        """What Postfix has said until now."""
        return (self.directory / "log").read_text(errors="replace")

    def _waiting(self) -> bool:
        queues = (self.directory / "queue" / name for name in ("incoming", "active", "deferred"))
        return any(file.is_file() for queue in queues for file in queue.rglob("*"))

    def _configure(self) -> None:
        owner = pwd.getpwnam(_OWNER)
        ports = {"plain": self.plain_port, "submission": self.submission_port, "submissions": self.submissions_port}
        limits = {"domain": DOMAIN, "size_limit": SIZE_LIMIT}
        ids = {"owner": _OWNER, "user": owner.pw_uid, "group": owner.pw_gid}
        config = self.directory / "config"
        config.mkdir()
        _settle(config / "main.cf", _MAIN.format(directory=self.directory, **limits, **ids))
        _settle(config / "master.cf", _MASTER.format(**ports))
        _settle(config / "mailboxes", _MAILBOXES)
        (self.directory / "queue").mkdir()
        for name in ("data", "mail"):
            (self.directory / name).mkdir(mode=0o700)
            shutil.chown(self.directory / name, _OWNER)

    def _certify(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        chain = self.directory / "server.pem"
        chain.touch(mode=0o600)
        authority.issue_cert("localhost", _HOST, "relay.example.org").private_key_and_cert_chain_pem.write_to_path(
            chain
        )

    def let_in(self, user: str, password: str) -> None:
        """From now on this user may sign in with this password, and with no other."""
        name, _, realm = user.partition("@")
        _run("saslpasswd2", "-c", "-p", "-f", self._passwords, "-u", realm, name, given=password)

    def shut_out(self, user: str) -> None:
        name, _, realm = user.partition("@")
        _run("saslpasswd2", "-d", "-f", self._passwords, "-u", realm, name)

    @property
    def _passwords(self) -> Path:
        return self.directory / "passwords"

    def _keep_password(self) -> None:
        sasl = self.directory / "config/sasl"  # where Debian's Postfix looks, whatever it is told
        sasl.mkdir()
        (sasl / "smtpd.conf").write_text(_SASL.format(file=self._passwords))
        self.let_in(self.user, self.password)
        shutil.chown(self._passwords, _OWNER)


class _NotStarted(AssertionError):
    """A program failed. Between finding free ports and listening there, somebody else may have taken one."""


def _run(program: str, *arguments: str | Path, given: str = "", log: Path | None = None) -> None:
    path = _program(program)
    assert path is not None
    with tempfile.TemporaryFile("w+") as said:  # no pipe: what Postfix starts would keep it open
        done = subprocess.run(
            [path, *map(str, arguments)], input=given, text=True, stdout=said, stderr=said, timeout=60, check=False
        )
        said.seek(0)
        if done.returncode != 0:
            raise _NotStarted(f"{program}: {said.read()}{log.read_text() if log and log.exists() else ''}")


def _program(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


def _settle(file: Path, content: str) -> None:
    """Write a file as if long ago: Postfix reads a younger one again and again, until it is two seconds old."""
    file.write_text(content)
    os.utime(file, (0, 0))


def _free_ports() -> tuple[int, int, int]:
    """Three ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind((_HOST, 0))
        plain, submission, submissions = (each.getsockname()[1] for each in sockets)
        return plain, submission, submissions


def _wait_until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:  # one that nobody has waited for is still there, with an empty command
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def _age(file: Path) -> int:
    return file.stat().st_mtime_ns
