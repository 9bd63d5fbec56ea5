import asyncio
import json
import logging
import sys
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest
from aws_double import CHAIN_KEYS, KEYS, REGION, Aws, failure
from double import Answered, Double, page, says
from loopback_only import cloudless, strays

from keyrelay.pam.backends import aws as backend
from keyrelay.pam.backends.aws import AwsSecrets
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import Case, PamContract, fetch, problem

__all__ = ["cloudless"]

((KEY, SECRET_KEY),) = KEYS.items()
((CHAIN_KEY, CHAIN_SECRET_KEY),) = CHAIN_KEYS.items()


@pytest.fixture
def aws():
    return Aws()


@pytest.fixture
def vault(tmp_path, aws, cloudless):
    logging.getLogger("botocore").setLevel(logging.NOTSET)  # as if nothing had hushed it yet
    with Double(tmp_path, aws) as vault:
        yield vault


def keyed(endpoint, key=KEY, secret_key=SECRET_KEY):
    return {
        "Region": REGION,
        "AccessKeyId": SecretText(key),
        "SecretAccessKey": SecretText(secret_key),
        "Endpoint": endpoint,
    }


@pytest.fixture
def case(vault, aws):
    def rotate():
        aws.secrets["prod/smtp"] = '{"password": "neu"}'
        return "neu"

    return Case(
        backend=AwsSecrets(),
        means=vault.means(seconds=10.0),
        given=keyed(vault.url),
        wanted={"SecretId": "prod/smtp", "Key": "password"},
        value="geheim \u00e4",
        missing={"SecretId": "prod/none", "Key": "password"},
        refused=keyed(vault.url, secret_key="another/secret+canary=key0"),
        away=keyed("https://127.0.0.1:1"),
        rotate=rotate,
    )


@pytest.fixture
def chained(case, vault, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", CHAIN_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CHAIN_SECRET_KEY)
    return with_(case, given={"Region": REGION, "Endpoint": vault.url})


class TestWithKeysOfTheProvider(PamContract):
    @pytest.fixture
    def case(self, case):
        return case


class TestWithTheMachinesKeys(PamContract):
    @pytest.fixture
    def case(self, chained):
        return chained


class TestAgainstMoto(PamContract):
    """moto's server over plain HTTP, which checks who asks and each signature."""

    @pytest.fixture
    def case(self, moto, tmp_path):
        def rotate():
            moto.secrets.put_secret_value(SecretId="prod/smtp", SecretString=json.dumps({"password": "neu"}))
            return "neu"

        with Double(tmp_path, lambda _: page()) as other:
            yield Case(
                backend=AwsSecrets(),
                means=other.means(seconds=20.0, allow_plain_http=True),
                given=keyed(moto.url, *moto.keys),
                wanted={"SecretId": "prod/smtp", "Key": "password"},
                value="geheim \u00e4",
                missing={"SecretId": "prod/none", "Key": "password"},
                refused=keyed(moto.url, moto.keys[0], "another/secret+canary=key0"),
                away=keyed("http://127.0.0.1:1"),
                rotate=rotate,
            )

    def test_a_stage_picks_the_version(self, case):
        assert fetch(with_(case, wanted={**case.wanted, "VersionStage": "AWSPREVIOUS"})).reveal() == "alt"
        assert problem(with_(case, wanted={**case.wanted, "VersionStage": "NONE"})).problem == "not_found"

    def test_a_binary_secret_that_is_text_comes_as_text(self, case):
        assert fetch(with_(case, wanted={"SecretId": "prod/binary"})).reveal() == "bin\u00e4r"

    def test_a_secret_marked_for_deletion_is_not_found(self, case):
        assert problem(with_(case, wanted={"SecretId": "prod/deleted"})).problem == "not_found"


@dataclass(frozen=True)
class Moto:
    """moto's server, which holds secrets and lets only one identity read them."""

    url: str
    keys: tuple[str, str]
    secrets: Any


@pytest.fixture(scope="module")
def moto_server():
    from moto.server import ThreadedMotoServer

    logging.getLogger("moto").setLevel(logging.INFO)  # it logs what it is asked, as no vault of another process would
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto(moto_server, cloudless):
    import boto3

    url = moto_server
    session = boto3.Session("any", "any", region_name=REGION)
    iam, secrets = (session.client(name, endpoint_url=url) for name in ("iam", "secretsmanager"))
    iam.create_user(UserName="keyrelay")
    key = iam.create_access_key(UserName="keyrelay")["AccessKey"]
    statement = {"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="keyrelay", PolicyName="read", PolicyDocument=document)
    secrets.create_secret(Name="prod/smtp", SecretString=json.dumps({"password": "alt"}))
    secrets.put_secret_value(SecretId="prod/smtp", SecretString=json.dumps({"password": "geheim \u00e4"}))
    secrets.create_secret(Name="prod/binary", SecretBinary="bin\u00e4r".encode())
    secrets.create_secret(Name="prod/deleted", SecretString="x")
    secrets.delete_secret(SecretId="prod/deleted")
    keys = (key["AccessKeyId"], key["SecretAccessKey"])
    mine = boto3.Session(*keys, region_name=REGION).client("secretsmanager", endpoint_url=url)
    # From here on moto checks who asks, and each signature.
    _post(f"{url}/moto-api/reset-auth", b"0")
    yield Moto(url, keys, mine)
    _post(f"{url}/moto-api/reset-auth", b"inf")
    _post(f"{url}/moto-api/reset", b"")


def _post(url, content):
    request = urllib.request.Request(url, content, {"Content-Type": "text/plain"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def with_(case, **more):
    return Case(**{**{name: getattr(case, name) for name in case.__slots__}, **more})


# What is in a secret


def test_without_a_key_the_secret_is_all_of_it(case):
    assert fetch(with_(case, wanted={"SecretId": "prod/smtp"})).reveal() == '{"password": "geheim \u00e4", "port": 25}'


def test_a_member_that_is_a_number_comes_as_json_writes_it(case):
    assert fetch(with_(case, wanted={"SecretId": "prod/smtp", "Key": "port"})).reveal() == "25"


@pytest.mark.parametrize("text", ["plain", "[1]", '"x"', '{"other": 1}', "[" * 100_000])
def test_a_member_that_is_not_there_is_not_found(case, aws, text):
    aws.secrets["prod/smtp"] = text
    assert problem(case).problem == "not_found"


def test_a_binary_secret_must_be_text(case, aws):
    aws.binary = {"bin": "bin\u00e4r".encode(), "noise": b"\xff\xfe"}
    assert fetch(with_(case, wanted={"SecretId": "bin"})).reveal() == "bin\u00e4r"
    assert problem(with_(case, wanted={"SecretId": "noise"})).problem == "bad_answer"


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (failure("com.amazonaws.secretsmanager#ResourceNotFoundException"), "not_found"),
        (failure("InvalidRequestException"), "not_found"),
        (failure("InvalidParameterException"), "bad_parameter"),
        (failure("DecryptionFailure"), "denied"),
        (failure("AccessDeniedException"), "denied"),
        (failure("ExpiredTokenException"), "denied"),
        (failure("ThrottlingException"), "sealed"),
        (failure("InternalServiceError", 500), "sealed"),
        (failure("ServiceUnavailable", 503), "sealed"),
        (Answered(400, b"", {"x-amzn-errortype": "AccessDeniedException:http://internal.example/"}), "denied"),
        (failure("SomethingNew"), "bad_parameter"),
        (failure("SomethingNew", 403), "denied"),
        (says([1], 500), "bad_answer"),
        (says({"__type": 5}, 503), "sealed"),
        (page(), "bad_answer"),
        (page(502), "sealed"),
        (says({"Name": "prod/smtp"}), "not_found"),
        (says({"SecretString": {}}), "bad_answer"),
        (says({"SecretBinary": "%"}), "bad_answer"),
        (Answered(302, b"", {"location": "https://127.0.0.1:1/"}), "bad_answer"),
        (Answered(200, b"{", huge=100_000_000), "bad_answer"),
        (Answered(hang_up=True), "unreachable"),
    ],
)
def test_each_way_to_fail_has_its_word(case, aws, answer, expected):
    aws.answers = [answer]
    failed = problem(case)
    assert failed.problem == expected
    assert "theirs" not in failed.detail
    assert fetch(case).reveal() == case.value


def test_a_silent_vault_is_left_in_time(case, aws, vault):
    aws.answers = [Answered(wait=30.0)]
    assert problem(with_(case, means=vault.means(seconds=1.0))).problem == "timeout"


def test_a_key_that_is_not_known_is_denied(case, vault):
    assert problem(with_(case, given=keyed(vault.url, key="AKIDOFNOBODY"))).problem == "denied"


@pytest.mark.parametrize(
    "region",
    ["", "eu", "EU-CENTRAL-1", "eu-central-1.other.example", "eu-central-1/x", "a-b@c", "eu-central-1\n", "a" * 99],
)
def test_what_is_no_region_is_refused_before_anybody_is_asked(case, vault, region):
    assert problem(with_(case, given={**case.given, "Region": region})).problem == "bad_parameter"
    assert vault.asked == []


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1", "https://x/?a=b", "https://u:p@x", "x", "https://a\r\nb"])
def test_what_is_no_safe_endpoint_is_refused(case, vault, endpoint):
    assert problem(with_(case, given={**case.given, "Endpoint": endpoint})).problem == "bad_parameter"
    assert vault.asked == []


@pytest.mark.parametrize("name", ["AccessKeyId", "SecretAccessKey"])
def test_one_key_without_the_other_is_no_sign_in(case, vault, name):
    given = {key: value for key, value in case.given.items() if key != name}
    assert problem(with_(case, given=given)).problem == "parameter_missing"
    assert vault.asked == []


@pytest.mark.parametrize("key", ["AKID\r\nX-Injected: yes", "AKID\u00e4"])
def test_a_key_that_no_header_may_hold_is_refused(case, vault, key):
    assert problem(with_(case, given=keyed(vault.url, key=key))).problem == "bad_parameter"
    assert vault.asked == []


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("eu-central-1", "https://secretsmanager.eu-central-1.amazonaws.com"),
        ("us-gov-west-1", "https://secretsmanager.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://secretsmanager.cn-north-1.amazonaws.com.cn"),
        ("us-iso-east-1", "https://secretsmanager.us-iso-east-1.c2s.ic.gov"),
        ("eusc-de-east-1", "https://secretsmanager.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_a_region_says_which_endpoint_is_asked(region, endpoint):
    assert backend._endpoint(region) == endpoint


def test_a_region_of_nobody_needs_an_endpoint(case):
    given = {name: value for name, value in case.given.items() if name != "Endpoint"}
    failed = problem(with_(case, given={**given, "Region": "moon-crater-1"}))
    assert failed.problem == "bad_parameter"
    assert "Endpoint" in failed.detail


# Whose keys


def test_keys_of_the_provider_are_used_alone(case, aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", CHAIN_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CHAIN_SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "chain-token-canary")
    fetch(case)
    assert aws.counted == {KEY: 1}


def test_a_session_token_of_the_machine_is_sent_and_never_logged(chained, aws, vault, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    aws.token = "chain-token-canary"
    monkeypatch.setenv("AWS_SESSION_TOKEN", aws.token)
    assert fetch(chained).reveal() == chained.value
    assert vault.asked[-1].headers["x-amz-security-token"] == aws.token
    assert aws.token not in caplog.text
    assert CHAIN_SECRET_KEY not in caplog.text


def test_keys_that_have_expired_are_looked_for_anew_once(chained, aws, monkeypatch):
    aws.token = "first"
    monkeypatch.setenv("AWS_SESSION_TOKEN", "first")
    fetch(chained)
    aws.token = "second"
    monkeypatch.setenv("AWS_SESSION_TOKEN", "second")
    assert fetch(chained).reveal() == chained.value
    assert aws.counted[CHAIN_KEY] == 3
    aws.token = "third"
    assert problem(chained).problem == "denied"
    assert aws.counted[CHAIN_KEY] == 5


def test_the_shared_file_is_found(chained, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    folder = tmp_path / "home" / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id = {CHAIN_KEY}\naws_secret_access_key = {CHAIN_SECRET_KEY}\n"
    )
    assert fetch(chained).reveal() == chained.value


def test_the_chain_is_asked_once_for_a_hundred(chained, monkeypatch):
    asked = []
    chain = backend._chain
    monkeypatch.setattr(backend, "_chain", lambda means: asked.append(1) or chain(means))

    async def many():
        fetches = (chained.backend.fetch(chained.wanted, chained.given, chained.means) for _ in range(100))
        return await asyncio.gather(*fetches)

    assert {found.reveal() for found in asyncio.run(many())} == {chained.value}
    assert len(asked) == 1


def test_a_machine_without_keys_is_denied(chained, vault, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    failed = problem(chained)
    assert failed.problem == "denied"
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    failed = problem(chained)
    assert failed.problem == "denied"
    assert "chain" in failed.detail
    assert vault.asked == []


def test_a_helper_program_that_hangs_is_left_in_time(chained, vault, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    folder = tmp_path / "home" / ".aws"
    folder.mkdir()
    program = "import time; time.sleep(5)"
    (folder / "config").write_text(f"[default]\ncredential_process = {sys.executable} -c '{program}'\n")
    assert problem(with_(chained, means=vault.means(seconds=0.5))).problem == "timeout"


def test_the_fence_sees_a_chain_that_looks_for_a_metadata_service(chained, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    with strays() as seen:
        assert problem(chained).problem == "denied"
    assert any("169.254.169.254" in one for one in seen)


@pytest.mark.parametrize("module", ["botocore.session", "botocore.auth"])
def test_without_the_extra_its_command_is_told(chained, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    failed = problem(chained)
    assert (failed.problem, failed.detail) == ("extra_missing", "pip install keyrelay[aws]")
