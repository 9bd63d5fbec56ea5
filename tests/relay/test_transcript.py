"""What is recorded of a session, and the secrets that are not."""

from __future__ import annotations

import base64
import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyrelay.relay.model import Evidence, Reply, StageFailed, failed
from keyrelay.relay.transcript import Redactor, StageReport, Transcript
from keyrelay.secrets.model import SecretText

WINDOW = 6
PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "

# An ellipsis stands where something was: a secret that holds one would seem to be there again.
foreign = st.text(st.characters(codec="utf-8", exclude_characters="\u2026"), min_size=1, max_size=60)
typed = st.text(PRINTABLE, min_size=WINDOW, max_size=80)
secrets = typed | foreign
around = st.text(PRINTABLE, max_size=30) | st.text(max_size=10)


def pieces(text: str) -> set[str]:
    folded = text.casefold()
    return {folded[start : start + WINDOW] for start in range(len(folded) - WINDOW + 1)}


def shown(secret: str, text: str) -> set[str]:
    """The pieces of a secret that can be read in what the redactor leaves of a text."""
    cleaned = Redactor([SecretText(secret)]).clean(text).casefold()
    return {piece for piece in pieces(secret) if piece in cleaned}


def told(secret: str, coded: str, text: str) -> set[str]:
    """The same for a coding of it."""
    cleaned = Redactor([SecretText(secret)]).clean(text).casefold()
    return {piece for piece in pieces(coded) if piece in cleaned}


def in_base64(before: bytes, secret: bytes, after: bytes) -> tuple[str, str]:
    """The coding of all three, and the part of it in which nothing but the secret has a say."""
    coded = base64.b64encode(before + secret + after).decode()
    bits, end = 8 * len(before), 8 * (len(before) + len(secret))
    return coded, coded[-(-bits // 6) : end // 6]


@given(secrets, around, around)
def test_no_piece_of_a_secret_can_be_read(secret, before, after):
    assert not shown(secret, before + secret + after)


@given(typed, around, around, st.integers(0, 80), st.integers(0, 80))
def test_no_piece_of_a_part_of_a_secret_can_be_read(secret, before, after, start, end):
    assert not shown(secret, before + secret[start:end] + after)


@given(typed, st.sampled_from([str.upper, str.lower, str.swapcase, str.title, str.casefold]), around)
def test_no_piece_can_be_read_in_other_letters(secret, change, before):
    assert not shown(secret, before + change(secret))


@given(secrets, st.binary(max_size=20), st.binary(max_size=20), around)
def test_no_piece_can_be_read_in_base64_at_any_alignment(secret, before, after, text):
    coded, its_own = in_base64(before, secret.encode(), after)
    assert not told(secret, its_own, f"{text}{coded}{text}")


@given(typed, st.sampled_from(["\0{0}\0{1}", "user={0}\x01auth=Bearer {1}\x01\x01", "n,a={0},\x01auth=Bearer {1}\x01"]))
def test_no_piece_can_be_read_of_what_was_said_to_sign_in(secret, way):
    said = way.format("mailer@example.org", secret)
    place = said.index(secret, len("mailer@example.org"))
    coded, its_own = in_base64(said[:place].encode(), secret.encode(), said[place + len(secret) :].encode())
    assert not told(secret, its_own, f"535 5.7.8 you said {coded}")


@given(secrets, around, around, st.sampled_from([lambda text: quote(text, safe=""), quote_plus, quote]))
@example("a/b&c/d", "", "", quote)
@example("a b/c&d e", "", "", quote_plus)
def test_no_piece_can_be_read_url_encoded(secret, before, after, way):
    coded = way(secret)
    assert not told(secret, coded, before + coded + after)


@given(typed, around, around)
def test_no_piece_can_be_read_in_hexadecimal(secret, before, after):
    coded = secret.encode().hex()
    for written in (coded, coded.upper()):
        assert not told(secret, coded, before + written + after)


@given(st.lists(typed, min_size=2, max_size=4), st.lists(around, min_size=5, max_size=5))
def test_of_several_secrets_none_can_be_read(several, between):
    text = "".join(piece for pair in zip(between, [*several, ""], strict=False) for piece in pair)
    cleaned = Redactor(map(SecretText, several)).clean(text).casefold()
    assert not {piece for secret in several for piece in pieces(secret) if piece in cleaned}


@given(st.text(string.ascii_letters, min_size=3, max_size=5), around)
def test_a_short_secret_cannot_be_read_either(secret, before):
    cleaned = Redactor([SecretText(secret)]).clean(f"{before} {secret} {secret.upper()}")
    assert secret.casefold() not in cleaned.casefold()


@given(st.text(max_size=200))
def test_without_secrets_a_text_stays_what_it_is_but_for_what_terminals_obey(text):
    cleaned = Redactor().clean(text)
    assert len(cleaned) == len(text)
    assert cleaned.isprintable() or any(character in text for character in cleaned if not character.isprintable())
    assert not set(cleaned) & set(map(chr, [*range(32), *range(127, 160), 0x2028, 0x2029]))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("535 5.7.8 hunter2-and-more is wrong", "535 5.7.8 \u2026 is wrong"),
        ("before HUNTER2-AND-MORE after", "before \u2026 after"),
        ("just hunter2 of it", "just \u2026 of it"),
        ("just hunte of it", "just hunte of it"),
        ("hunter2-hunter2-and", "\u2026"),
        ("Gr\u00fc\u00dfe an HUNTER2-and-more!", "Gr\u00fc\u00dfe an \u2026!"),
        ("two\r\nlines\x1b[0m", "two  lines [0m"),
    ],
)
def test_what_is_no_secret_stays_readable(text, left):
    assert Redactor([SecretText("hunter2-and-more")]).clean(text) == left


def test_a_secret_that_is_learned_later_counts_from_then_on():
    redactor = Redactor()
    redactor.add(SecretText("token-of-today"))
    assert redactor.clean("your token-of-today is bad") == "your \u2026 is bad"


def test_a_reply_is_cleaned_line_by_line_and_keeps_its_code():
    redactor = Redactor([SecretText("hunter2-and-more")])
    reply = redactor.reply(Reply(535, ("5.7.8 hunter2-and-more", "no\x07 good")))
    assert reply == Reply(535, ("5.7.8 \u2026", "no  good"))
    assert reply.enhanced == "5.7.8"


# --- Transcript ----------------------------------------------------------------------------------------------


def test_stages_are_told_as_they_finish_with_what_was_said():
    told_of: list[StageReport] = []
    transcript = Transcript(Redactor([SecretText("hunter2-and-more")]), told_of.append)
    with transcript.stage("hello") as learned:
        transcript.sent("EHLO client.test")
        readable = transcript.received(Reply(250, ("relay.test", "hunter2-and-more", "SIZE")))
        assert readable == Reply(250, ("relay.test", "\u2026", "SIZE"))
        learned["name"] = "client.test"
        assert told_of == []
    transcript.skip("token", "No need.")
    hello, token = told_of
    assert (hello.stage, hello.verdict, hello.learned) == ("hello", "ok", {"name": "client.test"})
    assert hello.dialogue == ("> EHLO client.test", "< 250-relay.test", "< 250-\u2026", "< 250 SIZE")
    assert hello.milliseconds >= 0
    assert (token.verdict, token.learned) == ("skipped", {"why": "No need."})
    assert transcript.stages == told_of


def test_a_stage_that_fails_keeps_its_evidence_and_passes_it_on():
    transcript = Transcript(Redactor())

    def auth() -> None:
        with transcript.stage("auth"):
            transcript.hidden("AUTH PLAIN with credentials")
            raise failed("auth", "reply", reply=Reply(535, ("5.7.8 no",)))

    with pytest.raises(StageFailed):
        auth()
    (report,) = transcript.stages
    assert (report.verdict, report.dialogue) == ("failed", ("> (AUTH PLAIN with credentials)",))
    assert report.evidence == Evidence("auth", "reply", Reply(535, ("5.7.8 no",)))


def test_a_stage_that_is_over_is_not_told_of_twice():
    transcript = Transcript(Redactor())
    transcript.enter("sender")
    transcript.leave()
    transcript.leave(Evidence("sender", "closed"))
    assert len(transcript.stages) == 1


def test_a_dialogue_is_no_longer_than_somebody_would_read():
    transcript = Transcript(Redactor())
    with transcript.stage("hello"):
        for _ in range(1000):
            transcript.sent("x" * 5000)
    (report,) = transcript.stages
    assert len(report.dialogue) <= 200
    assert max(map(len, report.dialogue)) <= 1000
