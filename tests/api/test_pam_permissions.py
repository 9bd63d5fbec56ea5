"""Who may see, change and use providers; and that nobody has a secret fetched or sent who may not read it."""

from __future__ import annotations

import pytest
from pam_kit import PROVIDERS, SETTINGS, TYPES, basic, body, entries, entry, local, oauth, provider, vault

from canary import leaks, new_canary
from complaints import OWN, complaint, without_id
from live import ANONYMOUS, BASIC, SMTP, V1, V2, LiveServer

PASSWORD = "long enough 1"
ENDPOINTS = "/KeyfactorAPI/Status/Endpoints"
DIAGNOSES = "/api/v1/diagnoses"
DEPUTY = ("deputy", PASSWORD)


class Caller:
    """Somebody with these permissions and no others."""

    def __init__(self, server: LiveServer, *permissions: str, name: str = "caller") -> None:
        self._server = server
        self._auth = (name, PASSWORD)
        server.add_user(name, PASSWORD, *permissions)

    def request(self, method: str, path: str, **more):
        return self._server.request(method, path, auth=self._auth, **more)

    def allowed(self, method: str, path: str, **more) -> None:
        answer = self.request(method, path, **more)
        assert answer.status_code in {200, 204}, f"{method} {path}: {answer.text}"

    def refused(self, permission: str, method: str, path: str, **more) -> None:
        answer = self.request(method, path, **more)
        message = complaint(answer, 403)
        assert message.endswith(permission), message


def entry_body(name: str) -> dict[str, str]:
    return {"SecretName": name, "SecretValue": "value"}


# --- Providers, types and entries ------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["/pam/read/", "/pam/", "/"])
def test_who_may_read_all_reads_all(server, held):
    one, two = provider(server, "One"), vault(server, "Two")
    caller = Caller(server, held)
    assert [found["Id"] for found in caller.request("GET", PROVIDERS).json()] == [one, two]
    for path in (TYPES, f"{PROVIDERS}/{one}", f"{PROVIDERS}/{two}", entries(one)):
        caller.allowed("GET", path)
    caller.allowed("GET", f"{TYPES}/{two}", headers=V2)


def test_who_may_read_one_provider_reads_that_one_alone(server):
    one, two = provider(server, "One"), provider(server, "Two")
    caller = Caller(server, f"/pam/read/{two}/")
    for version in (V1, V2):
        assert [found["Id"] for found in caller.request("GET", PROVIDERS, headers=version).json()] == [two]
        caller.allowed("GET", TYPES, headers=version)
    caller.allowed("GET", f"{PROVIDERS}/{two}")
    caller.allowed("GET", entries(two))
    caller.allowed("GET", f"{TYPES}/{two}", headers=V2)
    for other in (one, 99, int(f"{two}0")):  # and does not learn whether there is another
        caller.refused(f"/pam/read/{other}/", "GET", f"{PROVIDERS}/{other}")
        caller.refused(f"/pam/read/{other}/", "GET", entries(other))
        caller.refused(f"/pam/read/{other}/", "GET", f"{TYPES}/{other}", headers=V2)
    caller.refused(f"/pam/modify/{two}/", "DELETE", f"{PROVIDERS}/{two}")
    caller.refused(f"/pam/modify/{two}/", "POST", entries(two), json=entry_body("a"))
    caller.refused("/pam/modify/", "PUT", PROVIDERS, json={**body(server, "Two"), "Id": two})


def test_a_search_finds_nothing_of_what_its_caller_may_not_read(server):
    one, two = provider(server, "Secret project"), provider(server, "Two")
    caller = Caller(server, f"/pam/read/{two}/")
    for query in ('Name -contains "e"', 'Name -ne "x"', 'Name -contains "e" OR Area -eq 1'):
        found = caller.request("GET", PROVIDERS, params={"QueryString": query}).json()
        assert [each["Id"] for each in found] in ([two], [])
    first = caller.request("GET", PROVIDERS, params={"ReturnLimit": "1"}).json()
    assert [each["Id"] for each in first] == [two]
    assert one


@pytest.mark.parametrize("held", ["/pam/modify/", "/pam/", "/"])
def test_who_may_modify_all_makes_changes_and_deletes(server, held):
    caller = Caller(server, held)
    made = caller.request("POST", PROVIDERS, json=body(server, "Mine")).json()
    number = made["Id"]
    caller.allowed("PUT", PROVIDERS, json={**body(server, "Renamed"), "Id": number})
    caller.allowed("POST", entries(number), json=entry_body("a"))
    caller.allowed("PUT", entries(number), json=entry_body("a"))
    caller.allowed("DELETE", entries(number), params={"secretName": "a"})
    caller.allowed("DELETE", f"{PROVIDERS}/{number}")
    kind = caller.request("POST", TYPES, json={"Name": "Mine"}).json()
    caller.allowed("DELETE", f"{TYPES}/{kind['Id']}")


def test_who_may_modify_one_provider_changes_that_one_alone(server):
    one, two = provider(server, "One"), provider(server, "Two")
    caller = Caller(server, f"/pam/modify/{two}/")
    for version in (V1, V2):
        sent = {**body(server, "Renamed"), "Id": two, "Remote": False}
        caller.allowed("PUT", PROVIDERS, json=sent, headers=version)
        for other in (one, 99):
            caller.refused(f"/pam/modify/{other}/", "PUT", PROVIDERS, json={**sent, "Id": other}, headers=version)
            # Before anything else is said of the body.
            caller.refused(f"/pam/modify/{other}/", "PUT", PROVIDERS, json={"Id": other}, headers=version)
    caller.allowed("POST", entries(two), json=entry_body("a"))
    caller.allowed("PUT", entries(two), json=entry_body("a"))
    caller.allowed("DELETE", entries(two), params={"secretName": "a"})
    for other in (one, 99):
        caller.refused(f"/pam/modify/{other}/", "POST", entries(other), json=entry_body("a"))
        caller.refused(f"/pam/modify/{other}/", "PUT", entries(other), json=entry_body("a"))
        caller.refused(f"/pam/modify/{other}/", "DELETE", entries(other), params={"secretName": "a"})
        caller.refused(f"/pam/modify/{other}/", "DELETE", f"{PROVIDERS}/{other}")
    caller.refused("/pam/modify/", "POST", PROVIDERS, json=body(server, "Mine"))
    caller.refused("/pam/modify/", "POST", TYPES, json={"Name": "Mine"})
    caller.refused("/pam/modify/", "DELETE", f"{TYPES}/{two}")
    caller.refused("/pam/read/", "GET", PROVIDERS)  # modify does not imply read
    caller.refused(f"/pam/read/{two}/", "GET", f"{PROVIDERS}/{two}")
    caller.allowed("DELETE", f"{PROVIDERS}/{two}")


def test_other_rights_open_nothing(server):
    number = provider(server)
    caller = Caller(server, *SETTINGS, "/security/", "/pamela/read/", "/pam/reading/")
    for method, path, needed in (
        ("GET", PROVIDERS, "/pam/read/"),
        ("GET", TYPES, "/pam/read/"),
        ("GET", f"{PROVIDERS}/{number}", f"/pam/read/{number}/"),
        ("GET", entries(number), f"/pam/read/{number}/"),
        ("POST", PROVIDERS, "/pam/modify/"),
        ("PUT", PROVIDERS, "/pam/modify/"),
        ("POST", TYPES, "/pam/modify/"),
        ("DELETE", f"{PROVIDERS}/{number}", f"/pam/modify/{number}/"),
        ("PUT", entries(number), f"/pam/modify/{number}/"),
    ):
        caller.refused(needed, method, path, json={})


@pytest.mark.parametrize("trick", ["{}%2F", "{}%2F..%2F{}", "{}%2e", "0{}", "{}%00", "{}/%2e%2e/99"])
def test_a_number_with_something_after_it_opens_nothing(server, trick):
    number, other = provider(server, "One"), provider(server, "Two")
    caller = Caller(server, f"/pam/read/{number}/", f"/pam/modify/{number}/")
    path = f"{PROVIDERS}/{trick.format(number, other)}"
    answer = caller.request("GET", path)
    assert answer.status_code in {403, 404} or answer.json()["Id"] == number
    assert "Two" not in answer.text


@pytest.mark.parametrize(
    ("held", "listed", "unlisted"),
    [
        (
            "/pam/read/",
            {"GET /PamProviders", "GET /PamProviders/{id}", "GET /PamProviders/Types"},
            {"POST /PamProviders"},
        ),
        ("/pam/read/5/", {"GET /PamProviders", "GET /PamProviders/Types"}, {"GET /PamProviders/{id}"}),
        ("/pam/modify/", {"POST /PamProviders", "DELETE /PamProviders/Types/{id}"}, {"GET /PamProviders"}),
        ("/pam/modify/5/", {"PUT /PamProviders"}, {"POST /PamProviders", "DELETE /PamProviders/{id}"}),
        ("/system_settings/", {"PUT /SMTP"}, {"GET /PamProviders", "PUT /PamProviders"}),
        (
            "/",
            {f"{method} /PamProviders/Local/{{id}}/Entries" for method in ("GET", "POST", "PUT", "DELETE")},
            set(),
        ),
    ],
)
def test_the_list_of_endpoints_names_what_its_caller_may_use(server, held, listed, unlisted):
    found = set(Caller(server, held).request("GET", ENDPOINTS).json())
    assert listed <= found
    assert not unlisted & found


# --- The confused deputy ---------------------------------------------------------------------------------------


@pytest.fixture
def scene(trusting_server, relay):
    """An entry worth having, a relay of somebody who may change mail settings and no more, and both profiles."""
    return Scene(trusting_server, relay())


class Scene:
    def __init__(self, server: LiveServer, relay) -> None:
        self.server, self.relay = server, relay
        self.canary = new_canary()
        self.number = provider(server)
        for name in ("smtp-user", "smtp-pass", "client", "client-secret"):
            entry(server, self.number, name, self.canary)
        self.fetches = []
        fetch = server.node.vaults.fetch

        async def watched(*arguments, **more):
            self.fetches.append(arguments)
            return await fetch(*arguments, **more)

        server.node.vaults.fetch = watched
        server.add_user("deputy", PASSWORD, *SETTINGS)

    def here(self, number: int | None = None, profile=basic) -> dict:
        """A profile that would send the entry to the deputy's relay."""
        return profile(self.number if number is None else number, Host="localhost", Port=self.relay.port)

    def untouched(self, *answers) -> None:
        """Nobody was asked, nobody was connected to, and the secret is nowhere."""
        assert self.fetches == []
        assert self.relay.connections == 0
        for answer in answers:
            assert leaks({"entry": self.canary}, answer.content + str(answer.headers).encode()) == []


def refusal(answer) -> str:
    """What a refused caller is told, to the end."""
    said = complaint(answer, 403)
    return answer.json().get("remedy", said)


def own(profile: dict) -> dict:
    """The same profile in the words of our own API."""
    secrets = {"RelayUsername": "relay_username", "RelayPassword": "relay_password"}
    secrets |= {"ClientId": "client_id", "ClientSecret": "client_secret"}
    kind = {2: "basic", 3: "oauth_client_credentials"}[profile["RelayAuthenticationType"]]
    written = {"host": profile["Host"], "port": profile["Port"], "use_ssl": profile["UseSSL"], "authentication": kind}
    written |= {"sender_account": profile["SenderAccount"], "sender_name": profile["SenderName"]}
    if "TokenEndpoint" in profile:
        written |= {"token_endpoint": profile["TokenEndpoint"]}
    for name, field in secrets.items():
        if name in profile:
            reference = profile[name]
            written[field] = {"provider": reference["Provider"], "parameters": reference["Parameters"]}
    return written


WAYS = {
    "PUT v2": lambda profile: ("PUT", SMTP, V2, profile),
    "Test v2": lambda profile: ("POST", SMTP + "/Test", V2, {**profile, "TestRecipient": "me@example.org"}),
    "Test v1": lambda profile: ("POST", SMTP + "/Test", V1, {**profile, "TestRecipient": "me@example.org"}),
    "PUT own": lambda profile: ("PUT", OWN, {}, own(profile)),
    "PUT own, dry run": lambda profile: ("PUT", OWN + "?dry_run=true", {}, own(profile)),
    "PATCH own": lambda profile: ("PATCH", OWN, {}, own(profile)),
    "PATCH own, dry run": lambda profile: ("PATCH", OWN + "?dry_run=true", {}, own(profile)),
    "diagnosis": lambda profile: ("POST", DIAGNOSES, {}, {"profile": own(profile), "recipient": "me@example.org"}),
    "diagnosis, connecting": lambda profile: ("POST", DIAGNOSES, {}, {"profile": own(profile)}),
    "diagnosis, streamed": lambda profile: (
        *("POST", DIAGNOSES, {"accept": "text/event-stream"}),
        {"profile": own(profile), "recipient": "me@example.org"},
    ),
}
each_way = pytest.mark.parametrize("way", WAYS)


def take(server: LiveServer, way: str, profile: dict, auth=DEPUTY):
    method, path, headers, sent = WAYS[way](profile)
    return server.request(method, path, json=sent, headers=headers, auth=auth)


@each_way
@pytest.mark.parametrize("profile", [basic, oauth], ids=["basic", "oauth"])
def test_who_may_not_read_a_provider_cannot_use_it(scene, way, profile):
    if way == "Test v1" and profile is oauth:
        return  # version 1 has no OAuth
    scene.server.put_v2(BASIC).raise_for_status()
    before = scene.server.get(SMTP, headers=V2).content
    answer = take(scene.server, way, scene.here(profile=profile))
    assert refusal(answer).endswith(f"/pam/read/{scene.number}/")
    scene.untouched(answer)
    assert scene.server.get(SMTP, headers=V2).content == before


@each_way
def test_nor_learns_which_providers_there_are(scene, way):
    said = set()
    for number in (scene.number, 99, 2**31 - 1):
        answer = take(scene.server, way, scene.here(number))
        said.add((answer.status_code, without_id(answer).replace(f"/{number}/", "/n/")))
    assert len(said) == 1
    assert next(iter(said))[0] == 403
    scene.untouched()


@each_way
def test_nor_learns_it_from_a_body_with_other_mistakes(scene, way):
    said = set()
    for number in (scene.number, 99):
        broken = {**scene.here(number), "SenderName": "", "Port": 99999}
        answer = take(scene.server, way, broken)
        said.add((answer.status_code, without_id(answer).replace(f"/{number}/", "/n/")))
    assert len(said) == 1
    scene.untouched()


@each_way
def test_one_reference_that_may_not_be_used_spoils_the_others(scene, way):
    mine = provider(scene.server, "Mine")
    for name in ("smtp-user", "smtp-pass"):
        entry(scene.server, mine, name, "mine")
    scene.server.add_user("half", PASSWORD, *SETTINGS, f"/pam/read/{mine}/")
    profile = {**scene.here(mine), "RelayPassword": local(scene.number)}
    answer = take(scene.server, way, profile, auth=("half", PASSWORD))
    message = refusal(answer)
    assert message.endswith(f"/pam/read/{scene.number}/")
    assert f"/pam/read/{mine}/" not in message
    scene.untouched(answer)


@pytest.mark.parametrize("held", ["/pam/read/", "/pam/", "own"])
@each_way
def test_who_may_read_a_provider_may_use_it(scene, way, held):
    held = f"/pam/read/{scene.number}/" if held == "own" else held
    scene.server.add_user("user", PASSWORD, *SETTINGS, held)
    scene.server.put_v2(ANONYMOUS).raise_for_status()
    answer = take(scene.server, way, scene.here(), auth=("user", PASSWORD))
    assert answer.status_code in {200, 400}, answer.text
    assert "lacks" not in answer.text
    assert (answer.status_code == 200) == ("Test" not in way), answer.text


@pytest.mark.parametrize("held", ["/pam/modify/", "/pam/modify/1/", "/security/"])
def test_the_right_to_change_a_provider_is_not_the_right_to_use_it(scene, held):
    scene.server.add_user("changer", PASSWORD, *SETTINGS, held)
    answer = take(scene.server, "Test v2", scene.here(), auth=("changer", PASSWORD))
    complaint(answer, 403)
    scene.untouched(answer)


STORED = {
    "diagnosis of the stored profile": ("POST", DIAGNOSES, {"recipient": "me@example.org"}),
    "diagnosis of the stored profile, connecting": ("POST", DIAGNOSES, {}),
    "diagnosis of it with another host": ("POST", DIAGNOSES, {"profile": {"sender_name": "X"}}),
    "moving the stored profile": ("PATCH", OWN, {"sender_name": "X"}),
    "moving it to another relay": ("PATCH", OWN, {"host": "localhost"}),
    "moving it without doing so": ("PATCH", OWN + "?dry_run=true", {"host": "localhost"}),
    "taking one reference along": ("PATCH", OWN, {"relay_username": {"secret_value": "me"}}),
}


@pytest.mark.parametrize("what", STORED)
def test_references_of_the_stored_profile_are_used_by_those_alone_who_may(scene, what):
    scene.server.put_v2(scene.here()).raise_for_status()
    before = scene.server.get(SMTP, headers=V2).content
    method, path, sent = STORED[what]
    answer = scene.server.request(method, path, json=sent, auth=DEPUTY)
    assert refusal(answer).endswith(f"/pam/read/{scene.number}/")
    scene.untouched(answer)
    assert scene.server.get(SMTP, headers=V2).content == before


def test_a_profile_without_references_may_replace_one_that_has_some(scene):
    scene.server.put_v2(scene.here()).raise_for_status()
    taken_out = {"relay_username": {"secret_value": "me"}, "relay_password": {"secret_value": "mine"}}
    assert scene.server.patch(OWN, json=taken_out, auth=DEPUTY).status_code == 200
    scene.server.put_v2(scene.here()).raise_for_status()
    assert scene.server.put_v2(BASIC, auth=DEPUTY).status_code == 200
    scene.server.put_v2(scene.here()).raise_for_status()
    assert scene.server.put_v1(ANONYMOUS, auth=DEPUTY).status_code == 200
    scene.untouched()


def test_fields_that_the_type_does_not_use_are_no_way_in_either(scene):
    for extra in ({"ClientSecret": local(scene.number)}, {"RelayPassword": local(scene.number)}):
        anonymous = {**ANONYMOUS, "Host": "localhost", "Port": scene.relay.port, **extra}
        answer = scene.server.put_v2(anonymous, auth=DEPUTY)
        assert answer.status_code in {200, 403}
        scene.untouched(answer)
        assert scene.server.get_v2()["ClientSecret"] is None
        assert scene.server.get_v2()["RelayPassword"] is None


def test_a_right_that_is_taken_away_is_gone_at_once(scene):
    scene.server.add_user("user", PASSWORD, *SETTINGS, f"/pam/read/{scene.number}/")
    auth = ("user", PASSWORD)
    scene.server.put_v2(scene.here(), auth=auth).raise_for_status()

    async def take_away(node):
        async with node.store.change("access") as change:
            await change.run("DELETE FROM role_permission WHERE permission = $1", f"/pam/read/{scene.number}/")

    scene.server.run(take_away)
    complaint(scene.server.post(DIAGNOSES, json={}, auth=auth), 403)
    scene.untouched()


def test_the_try_of_a_provider_is_for_those_who_may_read_it(scene):
    path = f"/api/v1/pam-providers/{scene.number}/try"
    answer = scene.server.post(path, json={"parameters": {"SecretName": "smtp-pass"}}, auth=DEPUTY)
    assert refusal(answer).endswith(f"/pam/read/{scene.number}/")
    scene.untouched(answer)


def test_a_message_about_missing_rights_has_a_bound(sqlite_server):
    caller = Caller(sqlite_server, *SETTINGS)
    answer = caller.request("GET", f"{PROVIDERS}/{'9' * 20_000}")
    complaint(answer, 403, 404, 431)
