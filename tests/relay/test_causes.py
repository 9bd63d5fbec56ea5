"""Every failure is explained, by the cause that fits it best, in words without gaps."""

import itertools
import re
from dataclasses import replace
from typing import get_args

import pytest
from cause_examples import ANONYMOUS, EXAMPLES, OAUTH, RELAY, Example, reply_of, said, seen
from hypothesis import given
from hypothesis import strategies as st

from keyrelay import settings
from keyrelay.network.failures import FailureKind
from keyrelay.pam.backend import Problem
from keyrelay.profile.model import TransportSecurity
from keyrelay.relay.causes import CAUSES, Surroundings, explain
from keyrelay.relay.causes.model import ALWAYS_KNOWN, DOING, FACTS, UNKNOWN, WORDS, fill
from keyrelay.relay.causes.page import page
from keyrelay.relay.model import STAGES, Evidence, Kind, Reply

KINDS = get_args(Kind)
OF_VAULTS_ALONE = {*get_args(Problem)} - {*get_args(FailureKind)}
OF_THE_RELAY_ALONE = {
    "reply",
    "not_smtp",
    "not_offered",
    "no_mechanism",
    "insecure",
    "too_large",
    "outcome_unknown",
    "injected",
}
NAMES = [cause.id for cause in CAUSES]


def explained(example: Example):
    return explain(example.evidence, example.around)


# --- The catalogue -------------------------------------------------------------------------------------------


def test_every_cause_has_a_name_of_its_own_in_small_letters_and_hyphens():
    assert len(set(NAMES)) == len(NAMES) >= 40
    assert [name for name in NAMES if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)] == []


@pytest.mark.parametrize("cause", CAUSES, ids=NAMES)
def test_a_cause_says_what_is_wrong_and_what_to_do_in_whole_sentences(cause):
    for text in (cause.sentence, cause.remedy):
        assert re.search(r"[.\]]$", text), text
        assert "  " not in text
        assert text.count("[") == text.count("]")
        assert re.match(r"[A-Z{\[k]", text), text
    assert len(cause.sentence) < 260
    assert len(cause.remedy) < 420


@pytest.mark.parametrize("cause", CAUSES, ids=NAMES)
def test_a_word_that_may_be_unknown_stands_in_brackets_only(cause):
    safe = ALWAYS_KNOWN | UNKNOWN.keys()
    for text in (cause.sentence, cause.remedy):
        assert set(re.findall(r"\{(\w*)\}", text)) <= WORDS
        assert set(re.findall(r"\{(\w*)\}", re.sub(r"\[[^\]]*\]", "", text))) <= safe, text
        assert re.sub(r"\{\w+\}", "", text).count("{") == 0


@pytest.mark.parametrize("cause", CAUSES, ids=NAMES)
def test_the_conditions_of_a_cause_can_hold(cause):
    assert cause.stages
    assert set(cause.stages) <= set(STAGES)
    assert cause.kinds
    assert set(cause.kinds) <= set(KINDS)
    assert all(1 <= code <= 5 or 200 <= code < 600 for code in cause.codes)
    for pattern in filter(None, (cause.pattern, cause.host)):
        re.compile(pattern)
    if cause.enhanced:
        assert "reply" in cause.kinds


def test_a_setting_that_a_remedy_names_exists():
    known = {name for name, _, _ in settings.variables()}
    named = {name for cause in CAUSES for name in re.findall(r"KEYRELAY_[A-Z_]+", cause.sentence + cause.remedy)}
    assert named - known == set()


def test_nothing_says_that_passwords_for_exchange_online_are_at_their_end():
    for cause in CAUSES:
        if cause.id.startswith("microsoft"):
            assert not re.search(r"no longer|retired|removed for good|any more", cause.sentence + cause.remedy)
    off = next(cause for cause in CAUSES if cause.id == "microsoft-basic-off")
    assert "December 2026" in off.sentence
    assert "switch it on again" in off.sentence


# --- Which cause is found ------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.cause}-{example.evidence.stage}")
def test_what_was_seen_leads_to_the_cause(example):
    assert explained(example).cause.id == example.cause


def test_every_cause_has_an_example():
    assert {example.cause for example in EXAMPLES} == set(NAMES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.cause}-{example.evidence.stage}")
def test_the_words_for_a_case_have_no_gaps(example):
    explanation = explained(example)
    for text in (explanation.sentence, explanation.remedy):
        assert not re.search(r"[{}\[\]]", text.replace("keyrelay[aws]", "")), text
        assert not re.search(r"\s\s|\s[.,;:)]|\(\)|None|: \.", text), text
        assert text == text.strip()
        assert not text.startswith("Otherwise")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_kind_at_every_stage_is_explained(stage, kind):
    replies = [Reply(code, ("no",)) for code in (0, 250, 354, 421, 450, 500, 550, 999)] if kind == "reply" else [None]
    for reply, around in itertools.product(replies, (RELAY, ANONYMOUS, OAUTH)):
        explanation = explain(Evidence(stage, kind, reply), around)
        assert explanation.sentence
        assert explanation.remedy
        assert "{" not in explanation.sentence + explanation.remedy


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("recipient", "550 5.7.10 The domain of this recipient requires TLS"),
        ("data", "550 5.7.10 Encryption required: the receiver must use TLS"),
        ("auth", "530 5.7.0 Must issue a STARTTLS command first"),
        ("auth", "538 5.7.11 Encryption needed for this mechanism"),
    ],
)
@pytest.mark.parametrize("security", [TransportSecurity.STARTTLS_REQUIRED, TransportSecurity.IMPLICIT_TLS])
def test_nobody_is_told_to_encrypt_what_is_encrypted(stage, reply, security):
    explanation = explain(Evidence(stage, "reply", reply_of(reply)), replace(RELAY, security=security))
    assert "encrypted connection" not in explanation.sentence
    assert not explanation.remedy.startswith("Switch UseSSL on")


@pytest.mark.parametrize("stage", STAGES)
def test_there_is_an_explanation_made_for_every_network_failure_of_a_stage_that_waits_for_an_answer(stage):
    for kind in ("timeout", "closed"):
        if (stage, kind) != ("resolve", "closed"):
            assert explain(Evidence(stage, kind), RELAY).cause.id != "unexplained"


def test_a_failure_at_the_token_endpoint_names_the_token_endpoint_and_not_the_relay():
    for kind in set(KINDS) - OF_THE_RELAY_ALONE - OF_VAULTS_ALONE:
        explanation = explain(Evidence("token", kind), OAUTH)
        assert explanation.cause.id != "unexplained", kind
        assert OAUTH.host not in explanation.sentence
        assert "login.example.org" in explanation.sentence or kind == "bad_key"


def test_a_later_try_is_advised_for_what_passes_by_itself_and_not_for_what_somebody_must_change():
    retried = {name for name, cause in zip(NAMES, CAUSES, strict=True) if cause.retry}
    assert {"greylisted", "greeting-busy", "throttled", "relay-shutting-down", "dns-unavailable"} <= retried
    assert {"microsoft-concurrent-connections", "sign-in-temporarily-failed", "token-server-failed"} <= retried
    # Trying these again locks accounts, or sends a message twice.
    assert not {"credentials-wrong", "token-client-refused", "certificate-expired", "outcome-unknown"} & retried


def test_a_relay_that_defers_may_be_tried_again_whatever_it_says():
    for stage in ("greeting", "hello", "sender", "recipient", "data"):
        assert explain(Evidence(stage, "reply", Reply(451, ("4.0.0 hm",))), RELAY).cause.retry


def test_the_same_reply_means_another_thing_with_and_without_sign_in():
    denied = said("", "recipient", "554 5.7.1 Relay access denied").evidence
    assert explain(denied, RELAY).cause.id == "relay-denied-while-signed-in"
    assert explain(denied, ANONYMOUS).cause.id == "relay-denied"


def test_a_token_refused_by_exchange_is_not_called_a_wrong_password():
    refused = said("", "auth", "535 5.7.3 Authentication unsuccessful").evidence
    assert explain(refused, OAUTH).cause.id == "microsoft-token-refused"
    assert explain(refused, RELAY).cause.id == "exchange-credentials-wrong"


def test_the_permission_that_a_token_does_not_hold_is_named_with_what_it_holds():
    roles = ["Mail.Send", "Mail.Read"]
    refused = said("", "auth", "535 5.7.3 no", format="jwt", audience=["https://graph.test"], roles=roles).evidence
    assert explain(refused, OAUTH).sentence.endswith(
        "SMTP.SendAsApp, without which no app may send. It is for https://graph.test. It holds Mail.Send, Mail.Read."
    )
    assert "the token has no role SMTP.SendAsApp" in page("")


def test_the_port_that_the_detective_found_is_in_the_remedy():
    offered = seen("", "tls", "not_offered", "STARTTLS").evidence
    assert "465" not in explain(offered, RELAY).remedy.partition("Use a port")[0]
    assert "set Port to 465" in explain(offered, replace(RELAY, better_port=465)).remedy


# --- Filling in ----------------------------------------------------------------------------------------------


def test_days_names_and_sizes_are_written_for_people():
    expired = Evidence("tls", "expired", facts={"days": 1})
    assert explain(expired, RELAY).sentence == "A certificate of smtp.example.org has expired, 1 day ago."
    expired = Evidence("tls", "expired", facts={"days": 12})
    assert "12 days ago" in explain(expired, RELAY).sentence
    expired = Evidence("tls", "expired", facts={"days": 0})
    assert "less than a day ago" in explain(expired, RELAY).sentence
    names = [f"mx{number}.example.org" for number in range(7)]
    other = Evidence("tls", "name_mismatch", facts={"names": names})
    assert "mx4.example.org and 2 more." in explain(other, RELAY).sentence
    large = Evidence("sender", "too_large", facts={"size": 52_428_800, "limit": 512_000})
    assert explain(large, RELAY).sentence == (
        "The message has 52.4 MB, and is larger than smtp.example.org takes: 512.0 kB."
    )


def test_what_is_not_known_is_left_out():
    # The leaf has days to go when it is an intermediate that has expired.
    other = Evidence("tls", "expired", facts={"days": -40})
    assert explain(other, RELAY).sentence == "A certificate of smtp.example.org has expired."
    assert explain(Evidence("tls", "expired"), RELAY).sentence == "A certificate of smtp.example.org has expired."
    assert explain(Evidence("sender", "too_large"), RELAY).sentence == (
        "The message is larger than smtp.example.org takes."
    )


def test_braces_and_brackets_in_what_others_said_stay_as_they_are():
    odd = "{host} {days} [x {reply}] {0} {} {0.__class__}"
    sentence = explain(Evidence("hello", "reply", Reply(299, (odd,))), RELAY).sentence
    assert sentence.endswith(f": 299 {odd}.")
    assert explain(Evidence("tls", "handshake", detail=odd), RELAY).sentence.endswith(f" failed: {odd}.")


def test_a_value_from_outside_is_one_line_of_bounded_length():
    evidence = Evidence("tls", "handshake", detail="one\r\ntwo\x1b[31m\u202ethree " + "x" * 100_000)
    sentence = explain(evidence, RELAY).sentence
    assert "one two [31m three x" in sentence
    assert len(sentence) < 1000


@pytest.mark.parametrize("value", [None, "", "7", float("nan"), float("inf"), 10**400, [], object(), {"a": 1}, True])
@pytest.mark.parametrize("fact", sorted(FACTS))
def test_a_fact_of_the_wrong_type_breaks_nothing(fact, value):
    for stage, kind in (("tls", "expired"), ("tls", "name_mismatch"), ("sender", "too_large"), ("token", "status")):
        explanation = explain(Evidence(stage, kind, facts={fact: value}), RELAY)
        assert "object at" not in explanation.sentence


PLAIN_TEXT = st.text(st.characters(exclude_characters="{}[]"), max_size=60)
FACT_VALUES = st.one_of(st.integers(), st.floats(), PLAIN_TEXT, st.lists(PLAIN_TEXT, max_size=8), st.none())


@given(
    evidence=st.builds(
        Evidence,
        stage=st.sampled_from(STAGES),
        kind=st.sampled_from(KINDS),
        reply=st.none() | st.builds(Reply, st.integers(0, 999), st.lists(PLAIN_TEXT, max_size=3).map(tuple)),
        detail=PLAIN_TEXT,
        facts=st.dictionaries(st.sampled_from([*FACTS, "recipient", "certificates", "error_description"]), FACT_VALUES),
    ),
    around=st.builds(
        Surroundings,
        host=PLAIN_TEXT,
        port=st.integers(0, 65535),
        security=st.sampled_from(TransportSecurity),
        sign_in=st.sampled_from(["anonymous", "basic", "oauth_client_credentials"]),
        sender=PLAIN_TEXT,
        recipient=st.none() | PLAIN_TEXT,
        token_endpoint=st.none() | PLAIN_TEXT | PLAIN_TEXT.map("https://{}/token".format),
        look=st.sampled_from(["implicit-tls", "starttls", "plain", "silent", "refused", None]),
        better_port=st.none() | st.sampled_from([465, 587]),
    ),
)
def test_whatever_happens_is_explained_without_a_gap(evidence, around):
    explanation = explain(evidence, around)
    for text in (explanation.sentence, explanation.remedy):
        assert text.strip()
        assert not re.search(r"[{}\[\]]", text), text


@given(st.text(max_size=60))
def test_a_value_is_never_read_as_a_template(value):
    known = {"host": value, "detail": value}
    assert fill("{host}[: {detail}]", known) == (f"{value}: {value}" if value else "the relay")


# --- The page ------------------------------------------------------------------------------------------------


def test_the_page_has_every_cause_under_an_anchor_with_its_name():
    text = page("<!-- how -->")
    assert text.splitlines()[:3] == ["# Causes", "", "<!-- how -->"]
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == NAMES
    assert text.count("**What to do:**") == len(CAUSES)
    assert text.count("**Later:**") == sum(cause.retry for cause in CAUSES)
    assert "{" not in text


def test_the_page_shows_what_a_cause_says_and_when_it_is_found():
    entry = page("").partition("### microsoft-token-refused\n")[2].partition("\n### ")[0]
    assert "does not accept it for the mailbox *sender*." in entry
    assert "**Found:** at auth; code 535; status 5.7.3; sign-in oauth client credentials." in entry


def test_the_page_does_not_let_markdown_eat_what_an_administrator_has_to_type():
    assert r"smtpd\_tls\_wrappermode=yes" in page("")
    assert r"DOMAIN\\user" in page("")


def test_every_stage_has_words_for_what_is_being_done():
    assert DOING.keys() == set(STAGES)
