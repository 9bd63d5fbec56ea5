"""In whose name somebody may hand messages in (decision 0021)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from live import LiveServer
from submissions import JSON, MESSAGE, hand_in, idle_desk, number_kept, refused, submission, taken_in

PASSWORD = "long enough 1"
SUBMIT, AS = "/messages/submit/", "/messages/submit/as/"


@pytest.fixture(scope="module")
def desk(request, tmp_path_factory, sqlite_template) -> Iterator[LiveServer]:
    with idle_desk(request, tmp_path_factory, sqlite_template) as server:
        yield server


@pytest.fixture(scope="module")
def people(desk) -> LiveServer:
    for name, permissions in {
        "plain": (SUBMIT,),
        "as-ca": (AS + "ca@example.org/",),
        "both": (SUBMIT, AS + "ca@example.org/"),
        "as-pki": (AS + "PKI@example.org",),
        "as-all": (AS,),
        "all-messages": ("/messages/",),
        "everything": ("/",),
        "reader": ("/messages/read/",),
        "look-alike": (AS + "ca@example.org.evil.example/", AS + "ca/", AS + "a@example.org/"),
    }.items():
        desk.add_user(name, PASSWORD, *permissions)
    return desk


MAY = {  # in the profile's name by saying nothing, by saying so, and as ca@example.org
    "plain": (True, True, False),
    "as-ca": (False, False, True),
    "both": (True, True, True),
    "as-pki": (True, True, False),
    "as-all": (True, True, True),
    "all-messages": (True, True, True),
    "everything": (True, True, True),
    "reader": (False, False, False),
    "look-alike": (False, False, False),
}
NAMES = ((None, "pki@example.org"), ("pki@example.org",) * 2, ("ca@example.org",) * 2)


@pytest.mark.parametrize(("user", "may"), MAY.items())
def test_one_may_send_in_the_names_that_one_holds(people, user, may):
    for (name, sender), permitted in zip(NAMES, may, strict=True):
        header = b"" if name is None else f"From: Any <{name}>\r\n".encode()
        answers = [
            hand_in(people, JSON if name is None else JSON | {"from": name}, auth=(user, PASSWORD)),
            hand_in(people, header + MESSAGE.partition(b"\r\n")[2], auth=(user, PASSWORD)),
        ]
        for answer in answers:
            if permitted:
                assert submission(people, taken_in(answer)).sender == sender
            else:
                said = refused(answer, 403, "permission_missing")
                wanted = SUBMIT if user == "reader" else f"{AS}{sender}/"
                assert wanted in said
                assert user in said


@pytest.mark.parametrize(
    ("given", "query"),
    [
        (b"From: pki@example.org\r\nSender: ca@example.org\r\n", {}),
        (b"From: pki@example.org\r\nResent-From: ca@example.org\r\n", {"recipient": "ops@example.org"}),
        (b"From: pki@example.org\r\n", {"sender": "ca@example.org"}),
        (b"From: ca@EXAMPLE.org\r\n", {"sender": "pki@example.org"}),
        (b'From: "pki@example.org" <CA@example.org>\r\n', {}),
    ],
)
def test_no_place_of_a_message_is_a_way_round(people, given, query):
    before = number_kept(people)
    body = given + b"To: ops@example.org\r\n\r\nx\r\n"
    said = refused(hand_in(people, body, params=query, auth=("plain", PASSWORD)), 403, "permission_missing")
    assert AS + "ca@example.org/" in said
    assert number_kept(people) == before
    taken_in(hand_in(people, body, params=query, auth=("both", PASSWORD)))


def test_the_domain_of_the_name_may_be_written_in_its_own_letters(people):
    people.add_user("of-bücher", PASSWORD, AS + "ca@xn--bcher-kva.example/")
    answer = hand_in(people, JSON | {"from": "CA@Bücher.example"}, auth=("of-bücher", PASSWORD))
    assert submission(people, taken_in(answer)).sender == "CA@xn--bcher-kva.example"
