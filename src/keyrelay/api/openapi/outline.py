"""What the page shows of an OpenAPI document: references followed, schemas in words, a curl line for each operation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from keyrelay.api.openapi import Document

Node = dict[str, Any]

_LINE = 76  # characters of an example that fit on one line


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of text; ``link`` is the anchor of the schema that it names."""

    text: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter, or a property of a schema."""

    name: str
    place: str
    required: bool
    deprecated: bool
    kind: list[Word]
    description: str


@dataclass(frozen=True, slots=True)
class Example:
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """A body: its media types, what is in it, and examples."""

    media: list[str]
    kind: list[Word]
    examples: list[Example]


@dataclass(frozen=True, slots=True)
class Response:
    status: str
    description: str
    headers: list[str]
    content: Content | None


@dataclass(frozen=True, slots=True)
class OutlinedOperation:
    anchor: str
    method: str
    path: str
    summary: str
    description: str
    deprecated: bool
    permission: str | None
    signed_in: bool
    curl: str
    parameters: list[Member]
    body: Content | None
    responses: list[Response]


@dataclass(frozen=True, slots=True)
class OutlinedSchema:
    anchor: str
    name: str
    description: str
    kind: list[Word]
    members: list[Member]


class Outline:
    """``origin``: where keyrelay listens, as in http://127.0.0.1:8080; it begins the addresses in curl lines."""

    def __init__(self, name: str, document: Document, origin: str) -> None:
        self.name = name
        self.file = f"/docs/{name}.json"
        self.info: Node = document["info"]
        self._document = document
        self._base = document["servers"][0]["url"].rstrip("/")
        self._origin = origin
        self.operations = [
            self._operation(method, path, operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]
        self.schemas = [self._schema(each, schema) for each, schema in document["components"]["schemas"].items()]

    def _operation(self, method: str, path: str, operation: Node) -> OutlinedOperation:
        parameters = [self._follow(parameter) for parameter in operation.get("parameters", [])]
        body = self._content(operation.get("requestBody", {}))
        signed_in = bool(operation.get("security", self._document["security"]))
        return OutlinedOperation(
            anchor=f"{self.name}-{operation['operationId']}",
            method=method.upper(),
            path=self._base + path,
            summary=operation["summary"],
            description=operation["description"],
            deprecated=operation.get("deprecated", False),
            permission=operation.get("x-permission"),
            signed_in=signed_in,
            curl=self._curl(method, path, parameters, body, signed_in=signed_in),
            parameters=[
                self._member(parameter["name"], parameter["in"], parameter, required=parameter.get("required", False))
                for parameter in parameters
            ],
            body=body,
            responses=[self._response(status, response) for status, response in operation["responses"].items()],
        )

    def _response(self, status: str, reference: Node) -> Response:
        response = self._follow(reference)
        return Response(status, response["description"], list(response.get("headers", {})), self._content(response))

    def _schema(self, name: str, schema: Node) -> OutlinedSchema:
        required = schema.get("required", [])
        return OutlinedSchema(
            anchor=self._anchor(name),
            name=name,
            description=schema["description"],
            kind=[] if "properties" in schema else list(self._words(schema)),
            members=[
                self._member(each, "", member, required=each in required)
                for each, member in schema.get("properties", {}).items()
            ],
        )

    def _member(self, name: str, place: str, node: Node, *, required: bool) -> Member:
        schema = node.get("schema", node)
        description = node.get("description") or self._follow(schema).get("description", "")
        return Member(name, place, required, node.get("deprecated", False), list(self._words(schema)), description)

    def _content(self, node: Node) -> Content | None:
        content: Node = node.get("content", {})
        if not content:
            return None
        first: Node = next(iter(content.values()))
        found = [Example("", _pretty(first["example"]))] if "example" in first else []
        for reference in first.get("examples", {}).values():
            example = self._follow(reference)
            found.append(Example(example["summary"], _pretty(example["value"])))
        return Content(list(content), list(self._words(first["schema"])), found)

    def _words(self, schema: Node) -> Iterator[Word]:
        """What a value may be, in words."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            yield Word(name, self._anchor(name))
            return
        choices = schema.get("oneOf") or (schema.get("anyOf") if "type" not in schema else None)
        if choices:
            for place, choice in enumerate(choices):
                if place:
                    yield Word(" or ")
                yield from self._words(choice)
            return
        if "const" in schema:
            yield Word(json.dumps(schema["const"]))
            return
        yield from self._plain(schema)

    def _plain(self, schema: Node) -> Iterator[Word]:
        kinds = schema.get("type", "anything")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        name = schema.get("format", kinds[0])
        if "enum" in schema:
            yield Word("one of " + ", ".join(map(str, schema["enum"])))
        elif "items" in schema:
            yield Word("list of ")
            yield from self._words(schema["items"])
        elif "minimum" in schema and "maximum" in schema:
            yield Word(f"{name}, {schema['minimum']} to {schema['maximum']}")
        else:
            yield Word(name + (f", up to {schema['maxLength']} characters" if "maxLength" in schema else ""))
        if "null" in kinds[1:]:
            yield Word(" or null")

    def _curl(self, method: str, path: str, parameters: list[Node], body: Content | None, *, signed_in: bool) -> str:
        """The line to paste into a shell; curl asks for the password itself."""
        parts = [
            "curl"
            + (" --user admin" if signed_in else "")
            + (f" --request {method.upper()}" if method != "get" else "")
        ]
        parts += [
            "--header " + shlex.quote(f"{parameter['name']}: {parameter['example']}")
            for parameter in parameters
            if parameter["name"].startswith("x-keyfactor-")
        ]
        if body:
            parts.append("--header " + shlex.quote(f"content-type: {body.media[0]}"))
            parts.append("--data " + shlex.quote(body.examples[0].text))
        parts.append(shlex.quote(self._origin + self._base + _filled(path, parameters)))
        return " \\\n  ".join(parts)

    def _follow(self, node: Node) -> Node:
        while "$ref" in node:
            found: Node = self._document
            for step in node["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            node = found
        return node

    def _anchor(self, schema: str) -> str:
        return f"{self.name}-schema-{schema}"


def _filled(path: str, parameters: list[Node]) -> str:
    """The path with an example for what stands in braces, and the query that it needs."""
    query = []
    for parameter in parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
        elif parameter["in"] == "query" and parameter.get("required"):
            query.append((parameter["name"], parameter["example"]))
    return path + (f"?{urlencode(query)}" if query else "")


def _pretty(value: Any, indent: str = "") -> str:
    """JSON with a line for each member of what is too long for one line."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + len(line) <= _LINE:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        members = [f"{json.dumps(key)}: {_pretty(each, inner)}" for key, each in value.items()]
    else:
        members = [_pretty(each, inner) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(members) + f"\n{indent}{closing}"
