"""Every parser of what comes from outside gives a value or its documented error, whatever the bytes are."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kevel.api.compute import shapes
from kevel.api.compute.server_disks import read_disks
from kevel.api.compute.server_lists import read_list
from kevel.api.dispatch import ApiApp
from kevel.api.identity import bodies as identity_bodies
from kevel.api.identity import users
from kevel.api.identity.views import show_time as show_identity_time
from kevel.api.image.handlers import PatchStep, _read_step
from kevel.api.image.listing import select_page
from kevel.api.operations import Call, Caller, Version
from kevel.api.versions import NotAcceptable, read_version
from kevel.api.volume import API as VOLUME
from kevel.api.volume import listing, paging, values
from kevel.cli.config import Config, read_config, split_listen
from kevel.control.hosts.services import Services
from kevel.control.identity.identity import _hash_token
from kevel.domain.devices import DEVICE_CHARACTERS_MAX, choose_device
from kevel.domain.errors import CallerError, Conflict, Invalid, SetupError
from kevel.domain.images import ATTRIBUTES, READ_ONLY, Image, ImageStatus, Visibility, set_attribute
from kevel.domain.model import Actor
from kevel.domain.name_filter import NameFilter
from kevel.domain.qcow2 import Qcow2Error, parse_qcow2
from kevel.domain.server_disks import DiskSource
from kevel.hypervisor.libvirt import blocks, wire
from kevel.hypervisor.libvirt.child import FROM_CHILD
from kevel.hypervisor.libvirt.domain_xml import Unreadable, parse_domain_xml
from kevel.runtime.ports import SystemClock, SystemIds
from kevel.store.volume_lists import SORT_KEYS
from tests.integration.stand import KnownTokens

#: How long `make fuzz` gives all of them together; 0: the default run's few examples, the same ones every time.
SECONDS = int(os.environ.get("KEVEL_FUZZ_SECONDS", "0"))
EXAMPLES = 60 if SECONDS == 0 else max(100, SECONDS * 5)

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=SECONDS == 0,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TEXT = st.text(max_size=80)
NUMBERS = st.integers(-(10**25), 10**25)
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats() | TEXT
JSON = st.recursive(
    SCALARS,
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=10), one, max_size=4),
    max_leaves=8,
)
TIMES = st.datetimes().map(lambda at: at.isoformat()) | st.sampled_from(
    ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-W01", "2026-01-01", "20260101T000000Z", "")
)
#: Texts that a parser might take for something.
ODD = st.sampled_from(
    (
        *("0", "-1", "1" * 5000, "1e9", "0x10", " 1", "1_0", "\u0661", "\u00b2", "1.0", "nan", "inf"),
        *("[" * 4000, "{" * 4000, "(" * 4000, "{[]: 1}", "{'a': {}}", "{'a': 1}", '{"a": "b"}', "{1: 2}", "-" * 4000),
        *(
            "a:b",
            "gte:",
            "gte:x",
            "eq:2026-01-01",
            ",,,",
            ":::",
            "a,b:asc",
            "\x00",
            "\n",
            "\ud7ff",
            "%",
            "\\d",
            "'\\d'",
        ),
    )
)
WORDS = TEXT | TIMES | ODD | st.from_regex(r"[a-z_]{1,12}:(asc|desc)", fullmatch=True)


IMAGE = Image(
    id="0" * 32,
    name="box",
    project_id="p",
    status=ImageStatus.QUEUED,
    visibility=Visibility.SHARED,
    disk_format=None,
    container_format=None,
    size_bytes=None,
    virtual_bytes=None,
    md5=None,
    sha512=None,
    min_disk_gib=0,
    min_ram_mib=0,
    protected=False,
    hidden=False,
    properties={},
    tags=(),
    file=None,
    created_at=0,
    updated_at=0,
)


def settle(parse: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What it gives; None for one of its documented errors. Any other error ends the test."""
    try:
        return parse()
    except errors as error:
        words = str(error)
    assert 0 < len(words) < 2000, "an error says something, and does not repeat all that was sent"
    return None


# What libvirt and QEMU say.

NAMES = st.sampled_from(("ua-1", "ua-", "scsi0-0-0", "", "1", "-1", "x", "9" * 5000, "libvirt-1-format"))


def tags(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    known = ("domain", "devices", "disk", "source", "target", "alias", "serial", "mirror", "backingStore", "metadata")
    attribute = st.tuples(st.sampled_from(("index", "name", "file", "dev", "id", "type", "model")), NAMES)
    return st.builds(
        lambda tag, attributes, inside: (
            f"<{tag} {' '.join(f'{key}={value!r}' for key, value in dict(attributes).items())}>{inside}</{tag}>"
        ),
        st.sampled_from(known),
        st.lists(attribute, max_size=3),
        children,
    )


XML = st.recursive(st.sampled_from(("", "text", "<x")), tags, max_leaves=12)


@fuzzed
@given(XML.map(lambda inside: f"<domain id='1'><devices>{inside}</devices></domain>") | XML | TEXT)
@example("<domain><devices><disk><alias/></disk></devices></domain>")
@example("<domain><devices><disk><alias name='ua-1'/><target/></disk></devices></domain>")
@example("<domain><devices><disk><alias name='ua-1'/><source index='x'/></disk></devices></domain>")
def test_a_domains_xml(text: str) -> None:
    view = settle(lambda: parse_domain_xml(text), Unreadable)
    assert view is None or all(alias.startswith("ua-") for alias in view.disks)


class Monitor:
    """Stands in for libvirt's way to QEMU's monitor."""

    def __init__(self, answers: list[str]) -> None:
        self._answers = answers

    def qemuMonitorCommand(self, domain: object, request: str, flags: int) -> str:  # noqa: N802 - libvirt's name
        json.loads(request)
        return self._answers.pop(0) if self._answers else '{"return": []}'

    VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT = 0


NODE: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "node-name": st.sampled_from(("libvirt-1-format", "libvirt-2-storage", "x", "", 7, None)),
        "drv": st.sampled_from(("raw", 1, None)),
        "image": st.sampled_from(({"virtual-size": 1}, {"virtual-size": "1"}, {}, None, [])),
    },
)
ANSWERS = (
    st.fixed_dictionaries({"return": st.lists(NODE, max_size=4) | JSON}).map(json.dumps)
    | st.fixed_dictionaries({"error": JSON}).map(json.dumps)
    | JSON.map(json.dumps)
    | TEXT
)
DOMAIN_XML = "<domain id='1'><devices><disk><alias name='ua-1'/><source index='1'/></disk></devices></domain>"


@fuzzed
@given(st.lists(ANSWERS, max_size=8))
def test_what_qemus_monitor_answers(answers: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "libvirt_qemu", Monitor(list(answers)))
        domain = SimpleNamespace(XMLDesc=lambda flags: DOMAIN_XML)
        look = settle(lambda: blocks.look_at_disks(cast("Any", domain)), Unreadable, blocks.QemuRefused)
    assert look is None or look.xml.disks.keys() == {"ua-1"}


@fuzzed
@given(st.binary(max_size=200))
def test_a_frame_between_the_driver_and_its_child(body: bytes) -> None:
    settle(lambda: wire.read_length(body[: wire.LENGTH_BYTES]), ValueError)
    message = settle(lambda: FROM_CHILD.decode(body), msgspec.MsgspecError, ValueError)
    assert message is None or isinstance(message, wire.Reply | wire.Notice)
    request = msgspec.msgpack.Decoder(wire.Request)
    settle(lambda: request.decode(body), msgspec.MsgspecError, ValueError)


# Image files.


@fuzzed
@given(st.binary(max_size=300).map(lambda tail: b"QFI\xfb" + tail) | st.binary(max_size=300), st.integers(0, 2**63))
def test_the_head_of_an_image_file(head: bytes, file_bytes: int) -> None:
    header = settle(lambda: parse_qcow2(head, file_bytes), Qcow2Error)
    assert header is None or header.virtual_bytes > 0


FIELD = st.integers(0, 2**32 - 1) | st.sampled_from((0, 1, 2, 3, 16, 72, 104, 112))


@fuzzed
@given(st.lists(FIELD, min_size=25, max_size=40), st.integers(0, 2**40))
def test_a_qcow2_header_whose_fields_are_anything(fields: list[int], file_bytes: int) -> None:
    head = b"QFI\xfb" + b"".join(number.to_bytes(4, "big") for number in fields)
    settle(lambda: parse_qcow2(head, file_bytes), Qcow2Error)


@fuzzed
@given(st.sampled_from((*ATTRIBUTES, *READ_ONLY, "")) | TEXT, JSON)
def test_an_attribute_of_an_image(name: str, value: object) -> None:
    actor = Actor(user_id="u", project_id="p", request_id="req-1")
    changed = settle(lambda: set_attribute(actor, IMAGE, name, value), CallerError)
    assert changed is None or isinstance(changed, Image)


@fuzzed
@given(st.builds(PatchStep, op=st.sampled_from(("add", "remove", "replace", "move", "")), path=TEXT, value=JSON))
def test_a_step_of_an_images_patch(step: PatchStep) -> None:
    settle(lambda: _read_step(step), Invalid)


# Headers.


#: Words of a block device, and what a client might give for them.
DISK_WORDS: dict[str, st.SearchStrategy[Any]] = {
    "source_type": st.sampled_from(("image", "volume", "snapshot", "blank")),
    "destination_type": st.sampled_from(("local", "volume")),
    "uuid": st.uuids().map(str),
    "boot_index": st.sampled_from((0, "0", 1, -1, None)),
    "volume_size": st.sampled_from((1, "2", None)),
    "disk_bus": st.sampled_from(("scsi", "virtio", "ide")),
    **dict.fromkeys(("delete_on_termination", "no_device"), st.booleans()),
    **dict.fromkeys(("device_name", "tag", "volume_type", "device_type", "guest_format", "volume_id"), TEXT),
}
DISKS = st.lists(
    st.fixed_dictionaries({}, optional={name: value | JSON for name, value in DISK_WORDS.items()}) | JSON, max_size=3
)


@fuzzed
@given(DISKS, DISKS | st.none(), st.uuids().map(str) | st.just(""), st.sampled_from((1, 32, 42, 67, 104)))
def test_the_block_devices_of_a_server(old: object, new: object, image_id: str, minor: int) -> None:
    call = cast("Call", SimpleNamespace(version=Version(2, minor)))
    sent = {"block_device_mapping": old if new is None else None, "block_device_mapping_v2": new}
    # What an image defines has the same form.
    properties = {"block_device_mapping": json.dumps(old), "bdm_v2": "true" if minor > 32 else ""}
    try:
        disks, _ = read_disks(call, sent, image_id, properties)
    except Invalid:
        return
    assert image_id or any(disk.is_root for disk in disks)
    assert all((disk.source_id is None) == (disk.source is DiskSource.BLANK) for disk in disks)


@fuzzed
@given(st.from_regex(r"[0-9.]{0,12}", fullmatch=True) | WORDS)
def test_a_microversion(text: str) -> None:
    version = settle(lambda: read_version(VOLUME, text), Invalid, NotAcceptable)
    assert version is None or VOLUME.versions is None or VOLUME.versions[0] <= version <= VOLUME.versions[1]


HEADER_NAMES = st.sampled_from(
    (
        *(b"host", b"openstack-api-version", b"x-auth-token", b"content-type", b"content-length", b"x-forwarded-for"),
        *(b"x-openstack-nova-api-version", b"accept", b"range", b"x-subject-token", b"transfer-encoding"),
    )
)
HEADER_VALUES = st.binary(max_size=60) | st.sampled_from(
    (
        *(b"volume 3.60", b"volume latest", b"volume", b"compute 2.1, volume 3.71", b",,,", b"volume 9.9"),
        *(b"member", b"[::1", b"[::1]:80", b"a:b:c", b"a/../b", b"a b", b"\xff", b"@", b"x:99999", b"http://x"),
    )
)


async def ask(app: ApiApp, scope: dict[str, Any], body: bytes) -> int:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await app(scope, receive, send)
    return int(sent[0]["status"])


@fuzzed
@given(
    headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=5),
    query=st.binary(max_size=60),
    path=st.sampled_from(("/volume", "/volume/v3", "/volume/openapi.json", "/volume/v3/extensions")) | TEXT,
    method=st.sampled_from(("GET", "POST", "HEAD", "PUT")),
    body=st.binary(max_size=60),
)
@example(headers=[(b"host", b"[::1")], query=b"", path="/volume/v3/", method="GET", body=b"")
def test_any_headers_and_any_query(
    headers: list[tuple[bytes, bytes]], query: bytes, path: str, method: str, body: bytes
) -> None:
    runtime = SimpleNamespace(clock=SystemClock(), ids=SystemIds(), has_space=lambda: True)
    app = ApiApp(VOLUME, cast("Services", SimpleNamespace(runtime=runtime, identity=KnownTokens())))
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": headers,
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "root_path": "",
    }
    assert asyncio.run(ask(app, scope, body)) < 500


@fuzzed
@given(st.binary(max_size=300))
def test_a_tokens_secret(raw: bytes) -> None:
    assert len(_hash_token(raw.decode("latin-1"))) == 64


# Queries.

CALLER = Caller(
    user_id="u", user_name="u", user_domain_id="d", project_id="p", roles=frozenset({"admin"}), request_id="req-1"
)
SERVERS = SimpleNamespace(servers=SimpleNamespace(page_rows_max=1000))


def make_call(items: list[tuple[str, str]], version: Version) -> Call:
    return Call(
        services=cast("Services", SERVERS),
        caller=CALLER,
        version=version,
        path={},
        query=None,
        query_items=items,
        body=None,
        base_url="http://kevel",
        request=cast("Any", None),
    )


VOLUME_NAMES = (
    *("limit", "offset", "marker", "sort", "sort_key", "sort_dir", "with_count", "all_tenants", "id", "name", "name~"),
    *("status", "metadata", "bootable", "created_at", "updated_at", "size", "consumes_quota", "group_id", "user_id"),
)
SERVER_NAMES = (
    *("name", "image", "flavor", "power_state", "task_state", "locked", "changes-since", "changes-before", "limit"),
    *("marker", "sort_key", "sort_dir", "all_tenants", "deleted", "status", "uuid", "ip", "tags", "host"),
)
IMAGE_NAMES = (
    *("limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "os_hidden", "id", "name", "tag", "size_min"),
    *("size_max", "min_ram", "created_at", "updated_at", "protected", "status"),
)


def items(*names: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(st.sampled_from(names) | TEXT, WORDS), max_size=5)


@fuzzed
@given(items(*VOLUME_NAMES))
@example([("metadata", "{[]: 1}")])
@example([("metadata", "[" * 4000)])
@example([("metadata", "(" * 4000)])
@example([("created_at", "0001-01-01T00:00:00+23:59")])
def test_the_query_of_a_list_of_volumes(query: list[tuple[str, str]]) -> None:
    call = make_call(query, Version(3, 71))
    settle(lambda: listing.read_filter(call, listing.read_query(call)), Invalid)
    page = settle(lambda: paging.read_page(call, listing.read_query(call), SORT_KEYS), Invalid)
    assert page is None or 0 <= page.limit <= paging.PAGE_ROWS_MAX


@fuzzed
@given(items(*SERVER_NAMES))
def test_the_query_of_a_list_of_servers(query: list[tuple[str, str]]) -> None:
    read = settle(lambda: read_list(make_call(query, Version(2, 104))), CallerError)
    assert read is None or 0 <= read[0].rows_max <= 1000


@fuzzed
@given(items(*IMAGE_NAMES))
def test_the_query_of_a_list_of_images(query: list[tuple[str, str]]) -> None:
    actor = Actor(user_id="u", project_id="p", request_id="req-1")
    settle(lambda: select_page([IMAGE, msgspec.structs.replace(IMAGE, name=None)], actor, query), Invalid)


@fuzzed
@given(WORDS)
def test_the_numbers_times_and_words_of_queries(text: str) -> None:
    settle(lambda: shapes.read_count("limit", text), Invalid)
    settle(lambda: shapes.read_bool("flag", text), Invalid)
    at = settle(lambda: shapes.read_time("since", text), Invalid)
    assert at is None or isinstance(at, int)
    settle(lambda: values.read_number({"limit": text}, "limit"), Invalid)
    settle(lambda: values.read_size_gib(text, "size"), Invalid)
    settle(lambda: values.read_bool(text, "flag"), Invalid)
    settle(lambda: values.read_times("created_at", text), Invalid)
    settle(lambda: values.read_metadata(text), Invalid)


@fuzzed
@given(TIMES | TEXT)
def test_when_a_credential_ends(text: str) -> None:
    at = settle(lambda: users._read_time(text), Invalid)
    # What is past is refused before it is ever shown.
    assert at is None or at < 0 or show_identity_time(at)


@fuzzed
@given(
    JSON, st.sampled_from((identity_bodies.ProjectFields, identity_bodies.UserFields, identity_bodies.EndpointFields))
)
def test_the_fields_of_a_resource(raw: object, fields: type[msgspec.Struct]) -> None:
    settle(lambda: identity_bodies.split_fields("thing", raw, fields), Invalid)


@fuzzed
@given(WORDS, TEXT)
def test_a_name_to_look_for(text: str, name: str) -> None:
    found = settle(lambda: NameFilter(text), Invalid)
    assert found is None or isinstance(found.matches(name), bool)


# Names and settings.


@fuzzed
@given(st.from_regex(r"/dev/x?[a-z]*[0-9]*", fullmatch=True) | TEXT, st.lists(TEXT, max_size=3))
@example("/dev/" + "a" * 5000, [])
@example("/dev/vdb\n", [])
def test_a_devices_name(requested: str, taken: list[str]) -> None:
    name = settle(lambda: choose_device(requested, prefix="vd", taken=taken, root_device="/dev/vda"), Invalid, Conflict)
    assert name is None or (name == requested and name not in taken and len(name) <= DEVICE_CHARACTERS_MAX)


KEYS = st.sampled_from(("data", "listen", "hypervisor", "host", "limits", "log_level", "limits.attach_timeout_s", "x"))
TOML_VALUES = st.sampled_from(
    (
        *("1", "'a'", "true", "[1]", "{a = 1}", "nan", "inf", "-1", "1979-13-01", "'unended", "1" * 5000, "''"),
        *("[" * 3000, "{a=" * 3000, '"\\uD800"', "'libvirt'"),
    )
)
LINES = st.builds(lambda key, value: f"{key} = {value}", KEYS, TOML_VALUES)
TOML = st.lists(LINES | st.just("[limits]") | TEXT, max_size=5).map("\n".join).map(str.encode) | st.binary(max_size=80)


@fuzzed
@given(raw=TOML)
@example(raw=b"data = " + b"[" * 3000)
@example(raw=b"data = " + b"1" * 5000)
def test_the_configuration_file(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "kevel.toml"
    path.write_bytes(raw)
    config = settle(lambda: read_config(path), SetupError)
    assert config is None or isinstance(config, Config)


@fuzzed
@given(
    st.from_regex(r"[a-z0-9.:\[\]]{0,12}:[0-9]{0,6}", fullmatch=True) | WORDS | WORDS.map(lambda port: f"host:{port}")
)
@example("host:\u00b2")
@example("host:" + "1" * 5000)
def test_an_address_to_listen_on(text: str) -> None:
    found = settle(lambda: split_listen(text), SetupError)
    assert found is None or (found[0] and 0 <= found[1] <= 65535)
