"""What keyrelay runs on: Python, its libraries, and the machine's language."""

from __future__ import annotations

import locale as system_locale
import ssl
import sys
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version

from keyrelay.doctor.case import Case
from keyrelay.doctor.model import Finding, failure, ok, warning

# When security fixes end (devguide.python.org/versions).
_PYTHON_ENDS = {
    (3, 11): date(2027, 10, 31),
    (3, 12): date(2028, 10, 31),
    (3, 13): date(2029, 10, 31),
    (3, 14): date(2030, 10, 31),
}
_OPENSSL_3 = 3
_UTF_8 = {"utf-8", "utf8"}


async def python(case: Case) -> Finding:  # noqa: ARG001 - a check
    return python_found(sys.version_info[:3], datetime.now(UTC).date())


def python_found(running: tuple[int, int, int], today: date) -> Finding:
    name = "Python " + ".".join(map(str, running))
    ends = _PYTHON_ENDS.get(running[:2])
    if running < (3, 11):
        return failure(f"{name} is too old.", "Install Python 3.11 or newer.")
    if ends is not None and today > ends:
        return warning(f"{name} gets no security fixes since {ends}.", "Install a newer Python.")
    return ok(f"This is {name}.")


async def openssl(case: Case) -> Finding:  # noqa: ARG001 - a check
    return openssl_found(ssl.OPENSSL_VERSION_INFO[0], ssl.OPENSSL_VERSION)


def openssl_found(major: int, name: str) -> Finding:
    if major < _OPENSSL_3:
        return warning(f"{name} gets no security fixes any more.", "Use a Python that is built with OpenSSL 3.")
    return ok(f"TLS is that of {name}.")


async def uvloop(case: Case) -> Finding:  # noqa: ARG001 - a check
    return uvloop_found("uvloop")


def uvloop_found(package: str) -> Finding:
    try:
        __import__(package)
        return ok(f"{package} {version(package)} runs here.")
    except (ImportError, PackageNotFoundError):
        return failure(
            f"{package} cannot be loaded, and servers and workers need it.",
            "Install keyrelay anew for this Python and this machine.",
        )


async def locale(case: Case) -> Finding:  # noqa: ARG001 - a check
    return locale_found(system_locale.getencoding(), sys.getfilesystemencoding())


def locale_found(texts: str, files: str) -> Finding:
    if texts.lower() in _UTF_8 and files.lower() in _UTF_8:
        return ok("Texts and names of files are UTF-8.")
    return warning(
        f"Texts are {texts} and names of files {files} here, so what the commands print may lack letters.",
        "Set LANG=C.UTF-8 or PYTHONUTF8=1 where keyrelay is started.",
    )
