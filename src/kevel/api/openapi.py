"""The OpenAPI 3.1 document of an API, drawn from its operation table."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from kevel import __version__
from kevel.api.errors import error_body
from kevel.api.operations import (
    DOCUMENT_PATH,
    VERSIONS_PATH,
    Api,
    Call,
    Operation,
    Policy,
    Reply,
    Version,
)
from kevel.api.repeats import describe_header
from kevel.api.versions import read_version

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
#: Documents of one API that are kept ready.
DOCUMENTS_MAX: Final = 8
_REF: Final = "#/components/schemas/{name}"

Schema = dict[str, Any]


class DocumentQuery(msgspec.Struct, frozen=True):
    """Which document."""

    #: A microversion, "2.60"; the newest if none is given.
    version: str | None = None


def document_row(api: Api) -> Operation:
    """The row that answers with the API's own document, to anybody."""

    @cache
    def read_shapes() -> _Shapes:
        return _Shapes(api.operations)

    @lru_cache(maxsize=DOCUMENTS_MAX)
    def encode_document(version: Version) -> bytes:
        return msgspec.json.encode(_build(api, version, read_shapes()))

    async def show_document(call: Call) -> Reply:
        """This document, for one microversion."""
        wanted = call.query.version
        return Reply(body=encode_document(_newest(api) if wanted is None else read_version(api, wanted)))

    return Operation(
        name="showDocument",
        method="GET",
        path=DOCUMENT_PATH,
        handler=show_document,
        policy=Policy.PUBLIC,
        query=DocumentQuery,
        errors=(400, 406) if api.versions else (400,),
        reply=dict[str, Any],
    )


def build_document(api: Api, version: Version | None = None) -> dict[str, Any]:
    """The document at that microversion; None: at the newest. An API without microversions has one document only."""
    return _build(api, _newest(api) if version is None else version, _Shapes(api.operations))


def _newest(api: Api) -> Version:
    return api.versions[1] if api.versions else Version(0, 0)


def _build(api: Api, version: Version, shapes: _Shapes) -> dict[str, Any]:
    rows = [*api.operations, document_row(api)]
    paths: dict[str, dict[str, Any]] = {}
    links = _list_links(api, [row for row in rows if row.serves(version)])
    for (path, method), group in _group_rows(rows, version).items():
        shown = _describe_group(api, version, group, shapes)
        _add_links(shown, links.get(group[0].name, {}))
        paths.setdefault(_full_path(api, path), {})[method.lower()] = shown
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Kevel {api.name}",
            "version": str(version) if api.versions else __version__,
            "description": f"Kevel's {api.name} API, drawn from the table that its router works by.",
        },
        "paths": paths,
        "components": {
            "schemas": shapes.components,
            "responses": {f"Error{code}": _describe_error(api, code) for code in sorted(_all_codes(api, rows))},
            "headers": {"RequestId": {"description": "The request's id.", "schema": {"type": "string"}}},
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        },
        "security": [{"token": []}],
    }


def error_codes(api: Api, operation: Operation) -> frozenset[int]:
    """Every error that a request for this operation can meet. A 500 is a bug of Kevel's, and in no document, but where
    a row says that the storage's failure is told by it.
    """
    codes = set(operation.errors)
    if api.versions is not None:
        codes |= {400, 406}
    if operation.policy is not Policy.PUBLIC:
        codes |= {401, 403}
    if operation.query is not None:
        codes.add(400)
    if api.project_in_path and operation.path not in (VERSIONS_PATH, DOCUMENT_PATH):
        codes.add(400)
    if operation.method not in ("GET", "HEAD"):
        # Whatever changes something has its body read, and has to be stored.
        codes |= {400, 413, 415, 503}
    if operation.once:
        codes.add(422)
    return frozenset(codes)


class _Shapes:
    """The JSON schemas of all types of an API's table."""

    def __init__(self, rows: Iterable[Operation]) -> None:
        types = [DocumentQuery, dict[str, Any]]
        types += [kind for row in rows for kind in (row.body, row.body_shape, row.query, row.reply) if _is_shaped(kind)]
        schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
        self._schemas = {repr(kind): _translate(schema) for kind, schema in zip(types, schemas, strict=True)}
        self.components: dict[str, Any] = {name: _translate(schema) for name, schema in components.items()}

    def of(self, kind: Any) -> Schema:
        """The schema of one of the types."""
        return dict(self._schemas[repr(kind)]) if _is_shaped(kind) else {}

    def properties_of(self, kind: Any) -> tuple[Mapping[str, Schema], Sequence[str]]:
        """A struct's properties, and which of them have to be there."""
        name = self._schemas[repr(kind)]["$ref"].rpartition("/")[2]
        component = self.components[name]
        return component["properties"], component.get("required", ())


def _is_shaped(kind: Any) -> bool:
    return kind is not None and kind is not Any and kind is not bytes


def _translate(schema: Any) -> Any:
    r"""Python's \Z, the end of a text, is JavaScript's $, and JSON schemas are read as JavaScript reads them."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\Z", "$") if key == "pattern" and isinstance(value, str) else _translate(value)
            for key, value in schema.items()
        }
    if isinstance(schema, list | tuple):
        return [_translate(item) for item in schema]
    return schema


def _group_rows(rows: Iterable[Operation], version: Version) -> dict[tuple[str, str], list[Operation]]:
    """The rows in force by path and method; only actions share both."""
    groups: dict[tuple[str, str], list[Operation]] = {}
    for row in rows:
        if row.serves(version):
            groups.setdefault((row.path, row.method), []).append(row)
    return groups


def _full_path(api: Api, path: str) -> str:
    special = {VERSIONS_PATH: api.root, DOCUMENT_PATH: f"{api.root}/openapi.json"}
    return special.get(path, f"{api.prefix}{path}")


def _describe_group(api: Api, version: Version, rows: Sequence[Operation], shapes: _Shapes) -> dict[str, Any]:
    first = rows[0]
    shown: dict[str, Any] = {"operationId": _name_group(rows), "tags": [api.name]}
    summary = " ".join(filter(None, (_summarize(row) for row in rows)))
    if summary:
        shown["summary"] = summary
    shown["x-policy"] = {row.name: row.policy.value for row in rows}
    shown["parameters"] = [*_path_parameters(first), *_query_parameters(first, shapes)]
    shown["parameters"] += _header_parameters(api, version, first)
    body = _describe_body(rows, shapes)
    if body is not None:
        shown["requestBody"] = body
    shown["responses"] = _describe_responses(api, rows, shapes)
    if all(row.policy is Policy.PUBLIC for row in rows):
        shown["security"] = []
    return shown


def _name_group(rows: Sequence[Operation]) -> str:
    if rows[0].action is None:
        return rows[0].name
    things = rows[0].path.split("/")[1].capitalize()
    # One of them, unless the path is that of the list.
    return f"actOn{things.removesuffix('s') if '{' in rows[0].path else things}"


def _summarize(row: Operation) -> str:
    text = inspect.getdoc(row.handler) if inspect.isfunction(row.handler) else None
    return (text or "").partition("\n\n")[0].replace("\n", " ")


def _path_parameters(row: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _variables(row.path)
    ]


def _variables(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _query_parameters(row: Operation, shapes: _Shapes) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in row.query_names
    ]
    if row.query is not None:
        properties, required = shapes.properties_of(row.query)
        for name, schema in properties.items():
            kind = {"name": name, "in": "query", "schema": _without_null(schema)}
            shown.append(kind | ({"required": True} if name in required else {}))
    return shown


def _without_null(schema: Schema) -> Schema:
    """A parameter is there or not; it is never null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"]
    return kinds[0] if len(kinds) == 1 else {key: value for key, value in schema.items() if key != "default"}


def _header_parameters(api: Api, version: Version, row: Operation) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in row.headers
    ]
    if row.once:
        shown.append(describe_header())
    if api.versions is not None and row.path not in (VERSIONS_PATH, DOCUMENT_PATH):
        wanted: Schema = {"type": "string", "const": f"{api.version_service} {version}"}
        shown.append({"name": "OpenStack-API-Version", "in": "header", "required": True, "schema": wanted})
    return shown


def _describe_body(rows: Sequence[Operation], shapes: _Shapes) -> dict[str, Any] | None:
    first = rows[0]
    if first.streams:
        return {"required": True, "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
    if first.action is not None:
        kinds = [_describe_action(row, shapes) for row in rows]
        return {"required": True, "content": {JSON: {"schema": {"oneOf": kinds}}}}
    kind = first.body if first.body is not None else first.body_shape
    if kind is None:
        return None
    return {"required": True, "content": {first.media_type: {"schema": shapes.of(kind)}}}


def _describe_action(row: Operation, shapes: _Shapes) -> Schema:
    if row.body is not None:
        return {"title": row.name, **shapes.of(row.body), "maxProperties": 1}
    return {
        "title": row.name,
        "type": "object",
        "properties": {row.action: {}},
        "required": [row.action],
        "additionalProperties": False,
    }


def _describe_responses(api: Api, rows: Sequence[Operation], shapes: _Shapes) -> dict[str, Any]:
    headers = {name: {"$ref": "#/components/headers/RequestId"} for name in api.request_id_headers}
    shown: dict[str, Any] = {}
    for row in rows:
        for code in row.empties:
            shown[str(code)] = {"description": HTTPStatus(code).phrase, "headers": headers}
        described = _describe_content(row, shapes)
        content = {"content": described} if described else {}
        for code in (row.success, *row.others):
            shown[str(code)] = {"description": HTTPStatus(code).phrase, "headers": headers, **content}
    codes = {code for row in rows for code in error_codes(api, row)}
    return shown | {str(code): {"$ref": f"#/components/responses/Error{code}"} for code in sorted(codes)}


def _describe_content(row: Operation, shapes: _Shapes) -> dict[str, Any] | None:
    if row.reply is None or row.method == "HEAD":
        return None
    if row.reply is bytes:
        return {BYTES: {"schema": {"type": "string", "format": "binary"}}}
    return {JSON: {"schema": shapes.of(row.reply)}}


def _all_codes(api: Api, rows: Iterable[Operation]) -> set[int]:
    return {code for row in rows for code in error_codes(api, row)}


def _describe_error(api: Api, code: int) -> dict[str, Any]:
    example = error_body(api.error_style, code, "")
    ((name, inner),) = example.items()
    properties = {key: {"const": value} if key == "code" else {"type": "string"} for key, value in inner.items()}
    error = {"type": "object", "properties": properties, "required": list(inner), "additionalProperties": False}
    schema = {"type": "object", "properties": {name: error}, "required": [name], "additionalProperties": False}
    return {
        "description": HTTPStatus(code).phrase,
        "headers": {header: {"$ref": "#/components/headers/RequestId"} for header in api.request_id_headers},
        "content": {JSON: {"schema": schema}},
    }


def _list_links(api: Api, rows: Sequence[Operation]) -> dict[str, dict[str, Any]]:
    """For rows that make a thing: where its id goes next, by the row's name."""
    found: dict[str, dict[str, Any]] = {}
    groups: dict[tuple[str, str], str] = {}
    for row in rows:
        groups.setdefault((row.path, row.method), row.name if row.action is None else _name_group([row]))
    for row in rows:
        if row.new_id is None:
            continue
        before = f"{row.path}/{{"
        kept = {name: f"$request.path.{name}" for name in _variables(row.path)}
        found[row.name] = {
            name: {
                "operationId": name,
                "parameters": kept | {_variables(path)[len(kept)]: f"$response.body#{row.new_id}"},
            }
            for (path, _), name in groups.items()
            if path.startswith(before)
        }
    return found


def _add_links(shown: dict[str, Any], links: Mapping[str, Any]) -> None:
    if links:
        success = next(code for code in shown["responses"] if code.startswith("2"))
        shown["responses"][success]["links"] = dict(links)
