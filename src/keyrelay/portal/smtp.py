"""The page of the profile: what it is, and changing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from keyrelay.access.permissions import MODIFY_SETTINGS, READ_SETTINGS
from keyrelay.api.answers import Answer
from keyrelay.api.drafts import maker, rework
from keyrelay.api.problems import shown as shown_as
from keyrelay.api.profile import shown
from keyrelay.errors import BadInput, KeyrelayError, ProfileChanged, SecretRequired, Violation
from keyrelay.portal import smtp_form
from keyrelay.portal.credential_choices import MOST_PROVIDERS, credential_choices
from keyrelay.portal.diagnosis import Choice
from keyrelay.portal.forms import Form
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.profile_changes import SIGN_INS, Difference, differences, told
from keyrelay.portal.rendering import problem_of
from keyrelay.portal.smtp_lines import lines
from keyrelay.profile import exchange_online, patch
from keyrelay.profile.document import draft_differences
from keyrelay.profile.draft import ProfileDraft, draft_of
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import HIDDEN_FIELDS, SUBMISSIONS_PORT
from keyrelay.profile.on_the_wire import in_words
from keyrelay.profile.presets import PRESETS, Preset
from keyrelay.settings import Settings

_DONE = {"saved": "Saved. Mail goes this way from now on."}
_COMPARE = "Look at what differs below; then save yours, or take theirs."


@dataclass(frozen=True, slots=True)
class Conflict:
    """What somebody else has saved since the page was opened, beside what is about to be saved."""

    current: Snapshot
    rows: list[Difference]


@dataclass(frozen=True, slots=True)
class News:
    """What the page has to say beside the form."""

    preset: Preset | None = None
    error: KeyrelayError | None = None
    conflict: Conflict | None = None
    done: str | None = None


async def _show(asked: Asked) -> Answer:
    query = asked.request.query_params
    current = await asked.services.keeper.snapshot()
    done = _DONE.get(query.get("done", ""))
    if not asked.identity.may(MODIFY_SETTINGS):
        document = shown(current.profile, current.visible)
        rows = [(smtp_form.NAMES[field], told(field, value)) for field, value in document.items()]
        return await asked.show("smtp_values.html", current=current, rows=rows, done=done)
    form, preset = smtp_form.filled(current), PRESETS.get(query.get("preset", ""))
    if preset is not None:
        form = _filled_in(form, preset)
    return await _page(asked, current, form, News(preset=preset, done=done))


async def _save(asked: Asked) -> Answer:
    form, keeper = asked.form, asked.services.keeper
    if form.text("only") == "lines":
        return await _page(asked, await keeper.snapshot(), form, News())
    values, violations = smtp_form.given(form)
    tag = form.text("tag")

    def draft_for(current: Snapshot) -> tuple[ProfileDraft, tuple[Violation, ...]]:
        draft, found = patch.merge(current, values)
        return draft, (*violations, *found)

    make = await maker(asked, draft_for, lambda current: current.tag == tag)
    try:
        await rework(asked, make)
    except ProfileChanged as changed:
        current = await keeper.snapshot()
        conflict = _conflict(current, draft_for(current)[0])
        error = ProfileChanged(changed.message, remedy=_COMPARE)
        return await _page(asked, current, form, News(error=error, conflict=conflict))
    except BadInput as error:
        return await _page(asked, await keeper.snapshot(), _to_type(form, error), News(error=error))
    return asked.see("smtp", done="saved")


def _conflict(current: Snapshot, mine: ProfileDraft) -> Conflict:
    theirs = draft_of(current.profile)
    # A name that goes along to another destination is stored anew, and does not differ.
    same = {
        field: getattr(theirs, field)
        for field in current.visible
        if patch.is_shown(current, field, getattr(mine, field))
    }
    return Conflict(current, differences(draft_differences(theirs, replace(mine, **same))))


async def _page(asked: Asked, current: Snapshot, form: Form, news: News) -> Answer:
    """The form. It keeps the tag that it was made from, unless there is a conflict to decide."""
    settings, error = asked.services.settings, news.error
    tag = current.tag if news.conflict is not None else form.text("tag") or current.tag
    catalogue = await asked.services.providers.catalogue()
    values, _ = smtp_form.given(form)
    return await asked.show(
        "smtp.html",
        status=200 if error is None else shown_as(error).status,
        problem=None if error is None else problem_of(error, smtp_form.NAMES),
        done=news.done,
        form=smtp_form.shown_again(form),
        current=current,
        tag=tag,
        conflict=news.conflict,
        names=smtp_form.NAMES,
        sign_ins=SIGN_INS,
        credentials=credential_choices(form, current, catalogue, asked.identity),
        most_providers=MOST_PROVIDERS,
        presets=PRESETS.values(),
        preset=news.preset,
        set_here=_set_here(settings, news.preset),
        wire=_wire(allow_insecure=settings.allow_insecure_sign_in),
        wire_now=_wire_key(values),
        microsoft=exchange_online,
        password_ends=exchange_online.password_ends(values["host"], values["authentication"]),
        test=_test(form, current),
        lines=lines(values, user=asked.identity.name, url=settings.public_url, tag=tag),
        public_url=settings.public_url,
    )


def _set_here(settings: Settings, preset: Preset | None) -> dict[str, str]:
    """What the settings that keep to a preset's limits are on this node, by their names."""
    named = () if preset is None else preset.settings
    return {name: str(getattr(settings, name.removeprefix("KEYRELAY_").lower())) for name in named}


def _test(form: Form, current: Snapshot) -> Choice:
    """How far a test of the form goes, as chosen there."""
    sender = form.text("sender_account") or (current.profile.sender_account if current.profile else None)
    offered = Choice.offered(sender or None, given=True)
    return replace(offered.made(form), given=True) if form.has("test_mode") else offered


def _wire(*, allow_insecure: bool) -> dict[str, str]:
    """The words for every combination that differs, by key: the page's module chooses among them."""
    return {
        _wire_key({"port": port, "use_ssl": use_ssl, "authentication": sign_in}): in_words(
            port, use_ssl=use_ssl, signs_in=sign_in != "anonymous", allow_insecure=allow_insecure
        )
        for port in (SUBMISSIONS_PORT, 0)
        for use_ssl in (True, False)
        for sign_in in ("anonymous", "basic")
    }


def _wire_key(values: Mapping[str, Any]) -> str:
    port = str(SUBMISSIONS_PORT) if values["port"] == SUBMISSIONS_PORT else "other"
    signs_in = "anonymous" if values["authentication"] == "anonymous" else "signed-in"
    return f"{port}-{'tls' if values['use_ssl'] else 'plain'}-{signs_in}"


def _filled_in(form: Form, preset: Preset) -> Form:
    """The form with what the preset says; sender and credentials stay."""
    values: dict[str, str | None] = {
        "host": preset.host,
        "port": str(preset.port),
        "use_ssl": "yes" if preset.use_ssl else None,
        "authentication": preset.authentication,
        "token_endpoint": preset.token_endpoint or "",
        "scope": preset.scope or "",
        "audience": "",
        "request_headers": "",
    }
    if preset.relay_username is not None:
        values |= {"relay_username.source": smtp_form.HERE, "relay_username.secret_value": preset.relay_username}
    return smtp_form.with_fields(form, values)


def _to_type(form: Form, error: BadInput) -> Form:
    """The form with a new value chosen for each kept secret that has to be given again."""
    again = {one.field for one in error.violations if one.code == SecretRequired.code} & HIDDEN_FIELDS
    kept = {field for field in again if form.text(f"{field}.source") == smtp_form.KEEP}
    return smtp_form.with_fields(form, {f"{field}.source": smtp_form.HERE for field in kept})


PAGES = {"/smtp": {"GET": Right(_show, READ_SETTINGS), "POST": Right(_save, MODIFY_SETTINGS)}}
