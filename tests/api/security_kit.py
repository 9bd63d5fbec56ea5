"""Roles and claims as the tests of the security API make them, and the audit entries that tell of them."""

from __future__ import annotations

from typing import Any

import httpx2

from keyrelay.access.identity_provider import ClaimNames, document
from keyrelay.access.identity_providers import made
from live import V1, V2, LiveServer
from security_entries import entries

ROLES = "/KeyfactorAPI/Security/Roles"
CLAIMS = "/KeyfactorAPI/Security/Claims"
GLOBAL_SET = "8a2f6a0b-3f57-4f0c-9d35-1f6f0e4c7b52"
OTHER_SET = "11111111-2222-4333-8444-555555555555"
PASSWORD = "long enough 1"
READ, MODIFY = "/system_settings/read/", "/system_settings/modify/"


def user_claim(name: str, **more: Any) -> dict[str, Any]:
    """A claim that the local user of this name meets."""
    return {
        "ClaimType": 0,
        "ClaimValue": name,
        "ProviderAuthenticationScheme": "keyrelay",
        "Description": f"user {name}",
        **more,
    }


def body(name: str, *permissions: str, claims: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    """The body of a POST that makes a role."""
    return {
        "Name": name,
        "Description": f"all about {name}",
        "EmailAddress": None,
        "PermissionSetId": GLOBAL_SET,
        "Permissions": list(permissions),
        "Claims": list(claims),
        **more,
    }


def add(server: LiveServer, name: str, *permissions: str, **more: Any) -> dict[str, Any]:
    """Make a role, and give the answer."""
    made = server.post(ROLES, json=body(name, *permissions, **more), headers=V2)
    assert made.status_code == 200, made.text
    return made.json()


def add_claim(server: LiveServer, **given: Any) -> dict[str, Any]:
    made = server.post(CLAIMS, json=user_claim("ops", **given), headers=V1)
    assert made.status_code == 200, made.text
    return made.json()


def request_of(answer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A role as it is answered, as the request that changes nothing but what is said here."""
    numbers = {
        "User": 0,
        "Group": 1,
        "Computer": 2,
        "OAuthOid": 3,
        "OAuthRole": 4,
        "OAuthSubject": 5,
        "OAuthClientId": 6,
    }
    claims = [
        {
            "ClaimType": numbers[claim["ClaimType"]],
            "ClaimValue": claim["ClaimValue"],
            "ProviderAuthenticationScheme": claim["Provider"]["AuthenticationScheme"],
            "Description": claim["Description"],
        }
        for claim in answer["Claims"]
    ]
    return {**answer, "Claims": claims, **changes}


def replace(server: LiveServer, answer: dict[str, Any], auth: Any = None, **changes: Any) -> httpx2.Response:
    """PUT a role that was read, with some of it changed."""
    more = {} if auth is None else {"auth": auth}
    return server.put(ROLES, json=request_of(answer, **changes), headers=V2, **more)


def role(server: LiveServer, name: str) -> dict[str, Any]:
    """The role of that name, all of it."""
    (item,) = server.get(ROLES, params={"QueryString": f'Name -eq "{name}"'}, headers=V2).raise_for_status().json()
    return server.get(f"{ROLES}/{item['Id']}", headers=V2).raise_for_status().json()


def delete(server: LiveServer, place: str, number: int, **more: Any) -> httpx2.Response:
    return server.request("DELETE", f"{place}/{number}", headers=V1, **more)


def scheme(server: LiveServer, name: str = "entra", display_name: str = "Entra ID") -> None:
    """Have an identity provider of that authentication scheme, of which the audit trail does not tell."""
    authority, audience = "https://login.example.org", "api://keyrelay"
    kept = made(name, authority=authority, audience=audience, display_name=display_name, names=ClaimNames())

    async def insert(node) -> None:
        async with node.store.change("access") as change:
            await change.run(
                "INSERT INTO identity_provider (id, scheme, document) VALUES ($1, $2, $3)",
                *("99999999-0000-4000-8000-000000000001", name, document(kept)),
            )

    server.run(insert)


def permissions_of(server: LiveServer, name: str) -> list[str]:
    answer = server.get("/KeyfactorAPI/Security/My/Permissions", auth=(name, PASSWORD))
    return answer.raise_for_status().json()["Permissions"]


def told(server: LiveServer) -> list[dict[str, Any]]:
    """What the audit trail tells, after the first user."""
    return entries(server)[1:]
