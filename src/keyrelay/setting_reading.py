"""From the environment to the values of settings, and everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keyrelay import setting_texts
from keyrelay.setting_fields import Variable
from keyrelay.setting_problems import Problem, contradictions
from keyrelay.setting_values import PREFIX


def values(
    variables: Iterable[tuple[str, str, Variable]], environ: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """The values that are given and can be used, by field, and what is wrong with the others.

    ``variables``: (variable name, field name, how it is read) of every setting there is.
    """
    environ = setting_texts.ours(environ)
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    known: set[str] = set()
    for name, field, variable in variables:
        known.add(name)
        if variable.secret:
            known.add(name + "_FILE")
        try:
            text = setting_texts.given(environ, name, secret=variable.secret)
            if text is not None:
                found[field] = variable.parse(text)
        except ValueError as problem:
            problems.append(Problem(name, str(problem)))
    problems.extend(
        Problem(name, "is not a setting of keyrelay")
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    )
    problems.extend(contradictions(found))
    return found, tuple(problems)
