from __future__ import annotations

import asyncio
import contextlib
import time

import dns.resolver
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from dns_server import dns_server
from keyrelay.relay import deliverability, dmarc, spf
from keyrelay.relay.deliverability import Advice

SENDER = "pki@example.org"
RELAY = "192.0.2.25"
# What a domain in good order says.
GOOD = {
    ("example.org", "TXT"): ['"some-verification=1"', '"v=spf1 ip4:192.0.2.0/24 " "-all"'],
    ("_dmarc.example.org", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:dmarc@example.org"'],
    ("example.org", "MX"): ["20 b.example.org.", "10 a.example.org."],
}


def look(records, sender=SENDER, relay=(RELAY,), seconds=10.0, run=asyncio.run) -> dict[str, Advice]:
    with dns_server(records) as server:
        advice = run(deliverability.look(sender, relay, name_servers=(server.address,), seconds=seconds))
    assert [one.topic for one in advice] == ["spf", "dmarc", "mx"]
    return {one.topic: one for one in advice}


def spf_of(record: str, relay=(RELAY,), **more: list[str] | str) -> Advice:
    """The advice about an SPF record; ``more`` are records by "name TYPE"."""
    others = {tuple(key.split()): value for key, value in more.items()}
    return look({("example.org", "TXT"): [f'"{record}"']} | others, relay=relay)["spf"]


def dmarc_of(records: dict[str, str | list[str]], sender: str = SENDER) -> Advice:
    said = {name: [record] if isinstance(record, str) else record for name, record in records.items()}
    zone = {(f"_dmarc.{name}", "TXT"): [f'"{one}"' for one in texts] for name, texts in said.items()}
    return look(zone, sender=sender)["dmarc"]


# --- All three -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_domain_in_good_order_gets_three_good_verdicts_and_nothing_to_do(run):
    advice = look(GOOD, run=run)
    assert {(one.verdict, one.remedy) for one in advice.values()} == {("good", None)}
    assert advice["spf"].found == "v=spf1 ip4:192.0.2.0/24 -all"
    assert advice["dmarc"].found == "v=DMARC1; p=reject; rua=mailto:dmarc@example.org"
    assert sorted(advice["mx"].found.split(", ")) == ["a.example.org", "b.example.org"]


def test_a_domain_that_is_not_there_gets_three_hints():
    advice = look({})
    assert {(one.verdict, one.found) for one in advice.values()} == {("attention", None)}
    assert all(one.remedy for one in advice.values())


@pytest.mark.parametrize(
    "sender",
    [
        *("pki@localhost", "pki@mail.localhost", "pki@corp.local", "pki@CORP.LOCAL", "pki@a.internal", "pki@a.lan"),
        *(
            "pki@[192.0.2.1]",
            "pki@[IPv6:2001:db8::1]",
            "pki@mailhost",
            "pki@a.home.arpa",
            "",
            "pki",
            "pki@exa mple.org",
        ),
    ],
)
def test_dns_is_not_asked_for_names_that_it_cannot_know(sender):
    with dns_server(GOOD) as server:
        advice = asyncio.run(deliverability.look(sender, (RELAY,), name_servers=(server.address,)))
    assert [(one.topic, one.verdict) for one in advice] == [("spf", "unknown"), ("dmarc", "unknown"), ("mx", "unknown")]
    assert server.asked == []


def test_without_name_servers_there_is_no_look_and_no_advice():
    assert asyncio.run(deliverability.look(SENDER, (RELAY,), name_servers=())) == ()


def test_a_domain_outside_ascii_is_asked_for_as_idna_writes_it():
    name = "xn--bcher-kva.org"
    records = {(owner.replace("example.org", name), kind): said for (owner, kind), said in GOOD.items()}
    assert {one.verdict for one in look(records, sender="jürgen@Bücher.org").values()} == {"good"}


@pytest.mark.parametrize("trouble", ["SERVFAIL", "SILENT"])
def test_what_dns_does_not_answer_is_unknown_and_the_rest_is_told(trouble):
    advice = look(GOOD | {("example.org", "MX"): trouble}, seconds=1.0)
    assert {topic: one.verdict for topic, one in advice.items()} == {"spf": "good", "dmarc": "good", "mx": "unknown"}


def test_silence_ends_with_the_time_that_was_given():
    silent = {(name, kind): "SILENT" for name in ("example.org", "_dmarc.example.org") for kind in ("TXT", "MX")}
    start = time.monotonic()
    advice = look(silent, seconds=0.3)
    assert time.monotonic() - start < 5  # dnspython alone would try on for as long
    assert {one.verdict for one in advice.values()} == {"unknown"}


def test_many_slow_answers_have_no_more_time_than_one(monkeypatch):
    async def slow(name: str, kind: str) -> tuple[str, ...]:
        await asyncio.sleep(0.1)
        return (f"v=spf1 include:{name} -all",)

    monkeypatch.setattr(deliverability, "_dns", lambda *_: slow)
    advice = asyncio.run(deliverability.look(SENDER, (), name_servers=None, seconds=0.5))
    assert advice[0].verdict == "unknown"  # all the answers together would have said more


@pytest.mark.parametrize("name_server", ["", "not an address", "127.0.0.1:99999", "[::1", "dns.example.org"])
def test_name_servers_that_cannot_be_used_make_no_failure(name_server):
    advice = asyncio.run(deliverability.look(SENDER, (RELAY,), name_servers=(name_server,), seconds=0.5))
    assert {one.verdict for one in advice} == {"unknown"}


def test_a_machine_without_name_servers_makes_no_failure(monkeypatch):
    def nothing(*_):
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", nothing)
    advice = asyncio.run(deliverability.look(SENDER, (RELAY,), name_servers=None, seconds=0.5))
    assert {one.verdict for one in advice} == {"unknown"}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
    ],
)
def test_a_name_server_is_an_address_and_a_port_where_it_is_not_53(text, read):
    assert deliverability._host_and_port(text) == read


def test_giving_up_the_look_gives_up_its_questions():
    async def scenario(address: str) -> None:
        task = asyncio.create_task(deliverability.look(SENDER, (RELAY,), name_servers=(address,), seconds=60))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with dns_server({("example.org", "TXT"): "SILENT", ("example.org", "MX"): "SILENT"}) as server:
        asyncio.run(scenario(server.address))


def test_what_is_shown_of_a_record_is_short_and_has_no_control_characters():
    hostile = r"v=spf1 \027[31m\010\200 " + "x" * 200
    found = look({("example.org", "TXT"): [f'"{hostile}" "{"y" * 200}"']})["spf"]
    assert found.verdict == "attention"
    assert len(found.found) == 200
    assert found.found.isprintable()
    assert found.sentence.isprintable()


# --- SPF -----------------------------------------------------------------------------------------------------


def test_several_spf_records_are_none():
    advice = look({("example.org", "TXT"): ['"v=spf1 -all"', '"v=spf1 ip4:192.0.2.25 -all"']})["spf"]
    assert (advice.verdict, "2 SPF records" in advice.sentence) == ("attention", True)


def test_a_txt_record_that_only_begins_like_spf_is_none():
    assert "no SPF record" in spf_of("v=spf10 -all").sentence


@pytest.mark.parametrize("ending", ["+all", "all", "ALL", "?all", "", "ip4:192.0.2.25"])
def test_a_record_that_stops_nobody_needs_attention_even_when_it_names_the_relay(ending):
    advice = spf_of(f"v=spf1 ip4:192.0.2.25 {ending}")
    assert advice.verdict == "attention"
    assert ("everybody" in advice.sentence) == (ending.lower() in {"+all", "all"})


PARTNER = {"partner.example TXT": ['"v=spf1 ip4:192.0.2.25 -all"']}


@pytest.mark.parametrize(
    ("record", "more"),
    [
        ("v=spf1 ip4:192.0.2.25 -all", {}),
        ("V=SPF1 IP4:192.0.2.0/24 ~ALL", {}),
        ("v=spf1 +ip4:192.0.2.25 -all", {}),
        ("v=spf1  ip4:192.0.2.25  -all", {}),
        ("v=spf1 a -all", {"example.org A": ["192.0.2.25"]}),
        ("v=spf1 a/24 -all", {"example.org A": ["192.0.2.1"]}),
        ("v=spf1 a:out.example.org/24//64 -all", {"out.example.org A": ["192.0.2.1"]}),
        ("v=spf1 mx -all", {"example.org MX": ["10 in.example.org."], "in.example.org A": ["192.0.2.25"]}),
        ("v=spf1 include:partner.example -all", PARTNER),
        ("v=spf1 redirect=partner.example", PARTNER),
        ("v=spf1 exp=why.%{d} x-y=%{l} redirect=partner.example", PARTNER),
        ("v=spf1 include:a.example -all", {"a.example TXT": ['"v=spf1 redirect=partner.example"'], **PARTNER}),
        ("v=spf1 exists:%{i}.list.example.org ip4:192.0.2.25 -all", {}),
    ],
)
def test_a_record_that_names_the_relay_is_good(record, more):
    advice = spf_of(record, **more)
    assert advice.verdict == "good"
    assert "lets the relay send" in advice.sentence


@pytest.mark.parametrize(
    ("record", "more"),
    [
        ("v=spf1 -all", {}),
        ("v=spf1 ip4:192.0.2.26 ~all", {}),
        ("v=spf1 -ip4:192.0.2.25 ip4:192.0.2.0/24 -all", {}),
        ("v=spf1 a mx ptr -all", {}),
        ("v=spf1 a/24 -all", {"example.org A": ["192.0.3.1"]}),
        ("v=spf1 include:partner.example -all", {"partner.example TXT": ['"v=spf1 ?ip4:192.0.2.25 ~all"']}),
        ("v=spf1 ?include:partner.example -all", PARTNER),
        ("v=spf1 -all ip4:192.0.2.25", {}),
        ("v=spf1 -all redirect=partner.example", PARTNER),
    ],
)
def test_a_record_that_does_not_name_the_relay_is_a_hint_and_no_fault(record, more):
    advice = spf_of(record, **more)
    assert advice.verdict == "unknown"
    assert "(192.0.2.25)" in advice.sentence
    assert "need not be a fault" in advice.sentence
    assert advice.remedy


@pytest.mark.parametrize("include", ["include:%{ir}.%{v}.spf.example.org", "exists:%{i}.example.org", "ptr", "mx:%{d}"])
def test_parts_that_depend_on_the_message_are_said_to_be_unknown(include):
    assert "depend on the single message" in spf_of(f"v=spf1 {include} -all").sentence


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("v=spf1 ip4:192.0.2.300 -all", '"ip4:192.0.2.300" cannot be read'),
        ("v=spf1 ip4:192.0.2.0/33 -all", "cannot be read"),
        ("v=spf1 ip4 -all", '"ip4" cannot be read'),
        ("v=spf1 include -all", '"include" cannot be read'),
        ("v=spf1 ipv4:192.0.2.25 -all", '"ipv4:192.0.2.25" is no mechanism'),
        ("v=spf1 192.0.2.25 -all", '"192.0.2.25" cannot be read'),
        ("v=spf1 include:nowhere.example -all", "leads to nowhere.example, which has no SPF record"),
        ("v=spf1 redirect=nowhere.example", "redirect leads to nowhere.example"),
        ("v=spf1 include:" + "x" * 64 + ".example -all", "no SPF record"),
        ("v=spf1 include:twice.example -all", "several SPF records"),
        ("v=spf1 include:example.org -all", "more than the 10 DNS lookups"),
        ("v=spf1 redirect=example.org", "more than the 10 DNS lookups"),
        ("v=spf1 " + "a " * 11 + "-all", "more than the 10 DNS lookups"),
        ("v=spf1 mx:many.example -all", "more than 10 mail servers"),
    ],
)
def test_a_record_that_receivers_cannot_use_is_told_with_the_reason(record, why):
    advice = spf_of(
        record,
        **{
            "twice.example TXT": ['"v=spf1 -all"', '"v=spf1 ~all"'],
            "many.example MX": [f"{n} m{n}.example." for n in range(11)],
        },
    )
    assert advice.verdict == "attention"
    assert why in advice.sentence


def test_ten_lookups_are_not_too_many():
    assert spf_of("v=spf1 " + "a:a.example " * 10 + "ip4:192.0.2.25 -all").verdict == "good"


@pytest.mark.parametrize("relay", ["2001:db8::25", "2001:db8::25%eth0"])
@pytest.mark.parametrize("record", ["v=spf1 ip6:2001:db8::/32 -all", "v=spf1 a//64 -all", "v=spf1 a/24//64 -all"])
def test_a_relay_reached_over_ipv6_is_looked_for_too(relay, record):
    more = {"example.org AAAA": ["2001:db8::1"], "example.org A": ["192.0.2.1"]}
    assert spf_of(record, relay=(relay,), **more).verdict == "good"


def test_an_ipv4_address_inside_ipv6_is_the_ipv4_address():
    assert spf_of("v=spf1 ip4:192.0.2.25 -all", relay=("::ffff:192.0.2.25",)).verdict == "good"


@pytest.mark.parametrize("relay", [(), ("nonsense",)])
def test_without_an_address_of_the_relay_the_record_alone_is_looked_at(relay):
    advice = spf_of("v=spf1 ip4:192.0.2.25 -all", relay=relay)
    assert advice.verdict == "good"
    assert "was not compared" in advice.sentence


TERMS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["a", "mx", "-all", "include:a.example", "redirect=a.example", "ip4:1.2.3.4/8", "ip6:::/0", "a//129"]
    ),
    st.text(alphabet="+-~?aimx:/=%{}0123456789.", max_size=12),
)


@settings(max_examples=200)
@given(st.lists(TERMS, max_size=20))
def test_whatever_a_record_holds_it_has_an_outcome_or_a_reason(terms):
    record = " ".join(["v=spf1", *terms])
    asked = 0

    async def ask(name: str, kind: str) -> tuple[str, ...]:
        nonlocal asked
        asked += 1
        return {"TXT": (record,), "MX": ("a.example",), "A": ("192.0.2.1",), "AAAA": ("2001:db8::1",)}[kind]

    addresses = frozenset(filter(None, [deliverability._ip(RELAY)]))
    with contextlib.suppress(spf.Broken):
        outcome = asyncio.run(spf.evaluate(record, "a.example", addresses, ask))
        assert outcome.authorised <= addresses
        assert outcome.rest in {"", "+", "-", "~", "?"}
    assert asked <= 30


# --- DMARC ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "words"), [("none", "like any other"), ("quarantine", "junk folder"), ("reject", "to refuse")]
)
def test_the_dmarc_policy_is_said_in_words(policy, words):
    advice = dmarc_of({"example.org": f"v=DMARC1;p={policy}"})
    assert advice.verdict == "good"
    assert words in advice.sentence
    assert (advice.remedy is not None) == (policy == "none")


@pytest.mark.parametrize("record", ["v=DMARC1", "v=DMARC1; p=monitor", "v=DMARC1; rua=mailto:a@example.org"])
def test_a_dmarc_record_without_a_policy_needs_attention(record):
    advice = dmarc_of({"example.org": record})
    assert (advice.verdict, advice.found) == ("attention", record)


def test_several_dmarc_records_are_none():
    advice = dmarc_of({"example.org": ["v=DMARC1; p=reject", "v=DMARC1; p=none"]})
    assert (advice.verdict, "2 DMARC records" in advice.sentence) == ("attention", True)


def test_other_texts_beside_a_dmarc_record_do_not_count():
    assert dmarc_of({"example.org": ["v=spf1 -all", "v=DMARC12", "v=DMARC1; p=reject"]}).verdict == "good"


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ({"example.org": "v=DMARC1; p=reject"}, "_dmarc.example.org asks receivers to refuse"),
        ({"example.org": "v=DMARC1; p=reject; sp=none"}, "_dmarc.example.org asks receivers to treat"),
        (
            {"mail.pki.example.org": "v=DMARC1; p=none", "example.org": "v=DMARC1; p=reject"},
            "_dmarc.mail.pki.example.org asks receivers to treat",
        ),
        (
            {"mail.pki.example.org": "v=DMARC1; p=none; sp=reject"},
            "_dmarc.mail.pki.example.org asks receivers to treat",
        ),
        ({"pki.example.org": "v=DMARC1; p=none", "example.org": "v=DMARC1; p=reject"}, "_dmarc.example.org asks"),
        ({"pki.example.org": "v=DMARC1; p=none; psd=n", "example.org": "v=DMARC1; p=reject"}, "_dmarc.pki.example.org"),
        ({"example.org": "v=DMARC1; p=none", "org": "v=DMARC1; p=reject; psd=y"}, "_dmarc.example.org asks"),
        ({"org": "v=DMARC1; p=reject; psd=y"}, "_dmarc.org asks receivers to refuse"),
        ({"example.org": "v=DMARC1; p=reject; t=y"}, "this is a test"),
    ],
)
def test_a_domain_without_a_record_has_that_of_its_organisation(records, words):
    advice = dmarc_of(records, sender="pki@mail.pki.example.org")
    assert advice.verdict == "good"
    assert words in advice.sentence


def test_at_most_eight_names_are_asked_for():
    long = ".".join(f"n{number}" for number in range(30)) + ".example.org"
    names = dmarc._tree_walk(long)
    assert len(names) == 8
    assert names[0] == long
    assert names[1] == "n25.n26.n27.n28.n29.example.org"
    assert names[-1] == "org"
    assert dmarc._tree_walk("example.org") == ["example.org", "org"]


# --- MX ------------------------------------------------------------------------------------------------------


def test_a_null_mx_says_that_no_mail_is_taken():
    advice = look(GOOD | {("example.org", "MX"): ["0 ."]})["mx"]
    assert (advice.verdict, "null MX" in advice.sentence) == ("attention", True)


@pytest.mark.parametrize(("kind", "address"), [("A", "192.0.2.1"), ("AAAA", "2001:db8::1")])
def test_without_an_mx_record_the_domain_itself_is_where_bounces_go(kind, address):
    records = {key: said for key, said in GOOD.items() if key[1] != "MX"} | {("example.org", kind): [address]}
    advice = look(records)["mx"]
    assert (advice.verdict, "its own address" in advice.sentence) == ("attention", True)


def test_without_mx_record_and_address_bounces_cannot_arrive():
    advice = look({key: said for key, said in GOOD.items() if key[1] != "MX"})["mx"]
    assert (advice.verdict, "cannot arrive" in advice.sentence) == ("attention", True)
