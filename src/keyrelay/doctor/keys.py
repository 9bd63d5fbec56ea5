"""The keys: whether the master key opens every data key, and whether an old one was left behind."""

from __future__ import annotations

from keyrelay.aside import aside
from keyrelay.doctor.case import Case
from keyrelay.errors import KeyrelayError
from keyrelay.health.finding import Finding, failure, ok, warning
from keyrelay.secrets import master
from keyrelay.secrets.keyring import Keyring
from keyrelay.store.model import Row

_KEYS = "SELECT id, master_id, wrapped FROM data_key ORDER BY id"
_MOST_NAMED = 5


async def master_key(case: Case) -> Finding:
    """Key by key, so that the one that is damaged is named."""
    if isinstance(case.masters, KeyrelayError):
        return failure(case.masters.message, case.masters.advice)
    rows = await _rows(case)
    if not rows:
        return ok("There are no data keys yet; the first start makes one.")
    keyring = Keyring(case.masters)
    closed: list[tuple[int, KeyrelayError]] = []
    for row in rows:
        try:
            keyring.open_key(row)
        except KeyrelayError as problem:
            closed.append((row[0], problem))
    if not closed:
        return ok(f"The master key opens {'the data key' if len(rows) == 1 else f'all {len(rows)} data keys'}.")
    first = closed[0][1]
    if len(closed) == len(rows):
        return failure(first.message, first.advice)
    numbers = ", ".join(str(number) for number, _ in closed[:_MOST_NAMED])
    return failure(
        f"{len(closed)} of {len(rows)} data keys cannot be opened ({numbers}), so what they encrypt is out of reach.",
        first.advice,
    )


async def previous_master_key(case: Case) -> Finding:
    chosen = case.settings
    if isinstance(case.masters, KeyrelayError) or not case.masters:
        return ok("There is no master key to compare with.")
    newest = case.masters[0]
    if chosen.previous_master_key is not None:
        older = {row[1] for row in await _rows(case)} - {newest.id}
        if older:
            return warning("The master key is being replaced, and data keys are still under the old one.", _ROTATE)
        return warning(
            "KEYRELAY_PREVIOUS_MASTER_KEY is still set, and nothing needs it any more.", "Take it away on every node."
        )
    if chosen.master_key is None:
        return ok("No old master key was left behind.")
    left = await aside(lambda: master.read_file(chosen.data_dir))
    if left is not None and left.id != newest.id:
        return warning(
            "A master.key that is not in use lies in the data directory.",
            "Remove it, once no backup needs it any more.",
        )
    return ok("No old master key was left behind.")


_ROTATE = "Restart every node with both keys, and run: keyrelay keys rotate"


async def _rows(case: Case) -> list[Row]:
    return list(await case.opened.rows(_KEYS))
