"""Secrets from mounted files: as Kubernetes and systemd mount them, and nothing beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import threading
from pathlib import Path

import pytest

from keyrelay.pam.backend import Means, VaultFailed
from keyrelay.pam.backends import mounted_file
from keyrelay.pam.backends.mounted_file import MountedFile
from keyrelay.testing.pam import Case, PamContract, fetch, problem


def means(directory):
    return Means(ssl.create_default_context, ssl.create_default_context, secret_files=directory)


def case_of(directory, path, key=None, value=""):
    wanted = {"Path": path} if key is None else {"Path": path, "Key": key}
    return Case(
        backend=MountedFile(), means=means(directory), given={}, wanted=wanted, value=value, missing={"Path": "none"}
    )


def read(directory, path, key=None):
    return fetch(case_of(directory, path, key)).reveal()


def why(directory, path, key=None):
    return problem(case_of(directory, path, key)).problem


def mount(directory, version, **secrets):
    """Mount secrets as the kubelet does, or exchange those there are: files are links through a link to a directory."""
    held = directory / f"..{version}"
    held.mkdir(parents=True)
    for name, text in secrets.items():
        (held / name).write_text(text)
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    (directory / "..data_tmp").symlink_to(held.name)
    (directory / "..data_tmp").replace(directory / "..data")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "outside").write_text("not-for-anybody")
    (tmp_path / "secrets").mkdir()
    return tmp_path / "secrets"


class TestMountedFile(PamContract):
    @pytest.fixture
    def case(self, files):
        (files / "smtp").mkdir()
        (files / "smtp" / "password").write_text("of-the-mail-server\n")

        def rotate():
            (files / "smtp" / "password").write_text("of-tomorrow\n")
            return "of-tomorrow"

        return Case(
            backend=MountedFile(),
            means=means(files),
            given={},
            wanted={"Path": "smtp/password"},
            value="of-the-mail-server",
            missing={"Path": "smtp/none"},
            rotate=rotate,
        )


class TestMemberOfAMountedFile(PamContract):
    @pytest.fixture
    def case(self, files):
        (files / "smtp.json").write_text('{"user": "mailer", "password": "of-the-mail-server"}')
        return Case(
            backend=MountedFile(),
            means=means(files),
            given={},
            wanted={"Path": "smtp.json", "Key": "password"},
            value="of-the-mail-server",
            missing={"Path": "smtp.json", "Key": "none"},
        )


def test_without_a_directory_nothing_is_read(files):
    failure = problem(case_of(None, "smtp"))
    assert failure.problem == "bad_parameter"
    assert "KEYRELAY_SECRET_FILES" in failure.detail


def test_a_directory_that_is_not_there_is_told_from_a_file_that_is_not(files):
    failure = problem(case_of(files / "none", "smtp"))
    assert failure.problem == "unreachable"
    assert "KEYRELAY_SECRET_FILES" in failure.detail


@pytest.mark.parametrize(
    "path", ["../outside", "a/../../outside", "/etc/hostname", "a//b", "./smtp", "smtp/", "", "a\nb"]
)
def test_a_path_that_is_not_plainly_relative_is_refused(files, path):
    (files / "smtp").write_text("a")
    assert why(files, path) == "bad_parameter"


def test_the_links_of_kubernetes_are_followed_and_its_updates_seen(files):
    mount(files, "first", password="before\n")
    assert read(files, "password") == "before"
    mount(files, "second", password="after\n")
    assert read(files, "password") == "after"


def test_files_that_kubernetes_exchanges_between_looking_and_reading_are_read_as_they_are_then(files, monkeypatch):
    mount(files, "first", password="before")
    real = os.path.realpath

    def exchanged(path, **more):
        found = real(path, **more)
        if found.endswith("..first/password"):
            mount(files, "second", password="after")
            shutil.rmtree(files / "..first")
        return found

    monkeypatch.setattr(os.path, "realpath", exchanged)
    assert read(files, "password") == "after"


def test_a_directory_that_is_a_link_itself_is_the_operators_choice(files):
    (files / "password").write_text("here")
    (files.parent / "link").symlink_to("secrets")
    assert read(files.parent / "link", "password") == "here"


@pytest.mark.parametrize("target", ["../outside", "../none", "../secrets-of-others/password"])
def test_a_link_that_leads_out_is_denied_whether_anything_is_there_or_not(files, target):
    (files.parent / "secrets-of-others").mkdir()
    (files.parent / "secrets-of-others" / "password").write_text("not-for-anybody")
    (files / "link").symlink_to(target)
    assert why(files, "link") == "denied"


def test_a_folder_that_becomes_a_link_to_elsewhere_once_it_was_checked_is_not_followed(files, monkeypatch):
    """Whoever may write into the directory could try that; the check and the reading are of one and the same file."""
    (files / "folder").mkdir()
    (files / "folder" / "outside").write_text("inside")
    real = os.path.realpath

    def exchanged(path, **more):
        found = real(path, **more)
        if str(path).endswith("outside") and not (files / "folder").is_symlink():
            (files / "folder").rename(files / "moved")
            (files / "folder").symlink_to("..")
        return found

    monkeypatch.setattr(os.path, "realpath", exchanged)
    assert why(files, "folder/outside") == "denied"
    (files / "folder").unlink()
    (files / "moved").rename(files / "folder")
    monkeypatch.setattr(mounted_file, "_TRIES", 1)
    assert why(files, "folder/outside") == "not_found"


def test_links_in_a_circle_are_no_file(files):
    (files / "one").symlink_to("two")
    (files / "two").symlink_to("one")
    assert why(files, "one") == "not_found"


@pytest.mark.parametrize("kind", ["folder", "pipe", "itself"])
def test_only_regular_files_are_read_and_nothing_is_waited_for(files, kind):
    (files / "folder").mkdir()
    os.mkfifo(files / "pipe")
    (files / "itself").symlink_to(".")
    assert why(files, kind) == "bad_answer"


def test_a_file_is_read_up_to_its_bound(files):
    (files / "most").write_bytes(b"x" * mounted_file.SIZE_LIMIT)
    (files / "more").write_bytes(b"x" * (mounted_file.SIZE_LIMIT + 1))
    with (files / "endless").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert len(read(files, "most")) == mounted_file.SIZE_LIMIT
    assert why(files, "more") == "bad_answer"
    assert why(files, "endless") == "bad_answer"


@pytest.mark.parametrize(
    ("number", "expected"), [(13, "denied"), (1, "denied"), (5, "unreachable"), (24, "unreachable")]
)
def test_what_the_system_says_is_told_apart(files, monkeypatch, number, expected):
    def fails(*_, **__):
        raise OSError(number, "words of the system")

    monkeypatch.setattr(os, "open", fails)
    failure = problem(case_of(files, "password"))
    assert failure.problem == expected
    assert "words" not in failure.detail


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"plain", "plain"),
        (b"one\n", "one"),
        (b"windows\r\n", "windows"),
        (b"two\n\n", "two\n"),
        (b" spaces stay \n", " spaces stay "),
        (b"-----BEGIN-----\nabc\n-----END-----\n", "-----BEGIN-----\nabc\n-----END-----"),
        ("pässwörd".encode(), "pässwörd"),
        (b"\xef\xbb\xbfmarked", "marked"),
    ],
)
def test_one_newline_at_the_end_is_not_part_of_a_secret(files, content, expected):
    (files / "password").write_bytes(content)
    assert read(files, "password") == expected


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_file_is_no_secret(files, content):
    (files / "password").write_bytes(content)
    assert why(files, "password") == "not_found"


@pytest.mark.parametrize("content", [b"\xff\xfea\0", b"p\xe4ss", b"\xed\xa0\x80"])
def test_what_is_not_utf_8_is_no_answer_and_the_bytes_are_not_told(files, content):
    (files / "password").write_bytes(content)
    failure = problem(case_of(files, "password"))
    assert failure.problem == "bad_answer"
    assert failure.__context__ is None


@pytest.mark.parametrize(
    ("content", "key", "expected"),
    [
        ('{"password": "p"}', "password", "p"),
        (' \n{"a": {"password": "no"}, "password": "p"}', "password", "p"),
        ('{"pin": 007.10}'.replace("00", ""), "pin", "7.10"),
        ('{"pin": 123456789012345678901234567890}', "pin", "123456789012345678901234567890"),
        ('{"pin": 1e5}', "pin", "1e5"),
        ("USER=u\nPASSWORD=p\n", "PASSWORD", "p"),
        ("# a comment\n\nexport PASSWORD=p=q # r\r\n", "PASSWORD", "p=q # r"),
        ("PASSWORD = ' p '\n", "PASSWORD", " p "),
        ('PASSWORD="$p\\n"', "PASSWORD", "$p\\n"),
        ("PASSWORD='", "PASSWORD", "'"),
        ("PASSWORD=old\nPASSWORD=new", "PASSWORD", "new"),
    ],
)
def test_a_key_picks_a_member_of_json_or_of_lines(files, content, key, expected):
    (files / "smtp").write_text(content)
    assert read(files, "smtp", key) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"user": "u"}', "not_found"),
        ('{"password": null}', "not_found"),
        ('{"password": ["p"]}', "bad_answer"),
        ('{"password": "p"', "bad_answer"),
        ('{"a": ' + "[" * 30000, "bad_answer"),
        ("USER=u", "not_found"),
        ("just-a-password", "bad_answer"),
        ('["password"]', "bad_answer"),
    ],
)
def test_a_key_that_is_not_there_is_told_from_a_file_of_another_kind(files, content, expected):
    (files / "smtp").write_text(content)
    failure = problem(case_of(files, "smtp", "password"))
    assert failure.problem == expected
    assert failure.__context__ is None


def test_a_disk_that_hangs_holds_up_nobody_else(files, monkeypatch):
    (files / "password").write_text("here")
    goes_on = threading.Event()
    content = mounted_file._content

    def hangs(*given):
        assert goes_on.wait(30)
        return content(*given)

    monkeypatch.setattr(mounted_file, "_content", hangs)

    async def meanwhile():
        case = case_of(files, "password")
        reading = asyncio.create_task(case.backend.fetch(case.wanted, case.given, case.means))
        await asyncio.sleep(0.01)
        assert not reading.done()
        goes_on.set()
        return await reading

    assert asyncio.run(meanwhile()).reveal() == "here"


def descriptors():
    return len(list(Path("/dev/fd").iterdir()))


def test_no_descriptor_is_left_open(files):
    (files / "a").mkdir()
    (files / "a" / "password").write_text("here")
    (files / "a" / "folder").mkdir()
    read(files, "a/password")  # what a first read imports
    before = descriptors()
    for path in ("a/password", "a/none", "a/folder", "none/none"):
        for _ in range(5):
            with contextlib.suppress(VaultFailed):
                mounted_file._content(files, path.split("/"))
    assert descriptors() == before
