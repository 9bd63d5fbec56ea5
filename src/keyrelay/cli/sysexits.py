"""How commands end that stand in for mail(1) and sendmail(8): in one line, and with the codes of sysexits.h."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cyclopts import CycloptsError

from keyrelay.api.learned import shown
from keyrelay.errors import (
    BadInput,
    CannotStart,
    DatabaseUnreachable,
    KeyrelayError,
    KeyReused,
    NoProfile,
    OutboxFull,
    StoreUnavailable,
    Unsuitable,
)
from keyrelay.log import failure

OK, USAGE, DATA, NO_INPUT, REFUSED, SOFTWARE, LATER, CONFIG = 0, 64, 65, 66, 69, 70, 75, 78

# The first that fits.
_EXIT_CODES: tuple[tuple[type[KeyrelayError], int], ...] = (
    (BadInput, DATA),
    (KeyReused, DATA),
    (OutboxFull, LATER),
    (StoreUnavailable, LATER),
    (DatabaseUnreachable, LATER),
    (Unsuitable, NO_INPUT),
    (NoProfile, CONFIG),
    (CannotStart, CONFIG),
)


class Usage(Exception):
    """What was typed makes no sense together."""


def say(sentence: str) -> None:
    """Say it on standard error."""
    print(f"keyrelay: {sentence}", file=sys.stderr, flush=True)


@contextmanager
def sysexits() -> Iterator[None]:
    """Whatever goes wrong ends in one line, and in the exit code that scripts know from sendmail."""
    try:
        yield
    except Usage as wrong:
        raise SystemExit(misunderstood(wrong)) from None
    except KeyrelayError as error:
        say(f"{error} {error.advice} [{error.code}]")
        raise SystemExit(next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), SOFTWARE)) from None
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - nobody ever sees a traceback
        say(f"failed unexpectedly: {type(error).__name__} at {failure(error)['through'][-1]}. Please report it.")
        raise SystemExit(SOFTWARE) from None


def misunderstood(error: CycloptsError | Usage) -> int:
    """Say what cannot be understood, and give the exit code for it."""
    said = shown(" ".join(str(error).split()))
    say(f"{said} See keyrelay send --help.")
    return USAGE
