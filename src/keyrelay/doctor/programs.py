"""What keyrelay runs on: Python, its libraries, and the machine's language."""

from __future__ import annotations

import locale as system_locale
import ssl
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from keyrelay.doctor.case import Case
from keyrelay.health.finding import Finding, failure, ok, warning
from keyrelay.health.programs import openssl_found, python_found

_UTF_8 = {"utf-8", "utf8"}


async def python(case: Case) -> Finding:  # noqa: ARG001 - a check
    return python_found(sys.version_info[:3], datetime.now(UTC).date())


async def openssl(case: Case) -> Finding:  # noqa: ARG001 - a check
    return openssl_found(ssl.OPENSSL_VERSION_INFO[0], ssl.OPENSSL_VERSION)


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
