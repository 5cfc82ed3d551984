"""Key pairs: a user's own, imported or drawn, at every microversion's shape."""

from __future__ import annotations

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.integration.compute.conftest import Stand, message

PAIRS = "/os-keypairs"


def draw_public_key() -> str:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


KEY = draw_public_key()


async def enter(
    stand: Stand, name: str = "mine", *, caller: str = "member", version: str = "2.92", **keys: object
) -> httpx.Response:
    body = {"keypair": {"name": name, "public_key": KEY, **keys}}
    return await stand.call("POST", PAIRS, body, caller=caller, version=version)


async def names(stand: Stand, query: str = "", *, caller: str = "member", version: str = "2.35") -> list[str]:
    answer = await stand.call("GET", PAIRS + query, caller=caller, version=version)
    assert answer.status_code == 200, answer.text
    return [one["keypair"]["name"] for one in answer.json()["keypairs"]]


@pytest.mark.parametrize(("version", "code"), [("2.1", 200), ("2.2", 201), ("2.91", 201), ("2.92", 201)])
async def test_a_public_key_is_kept_and_shown(stand: Stand, version: str, code: int) -> None:
    answer = await enter(stand, version=version)
    assert answer.status_code == code, answer.text
    made = answer.json()["keypair"]
    typed = {} if version == "2.1" else {"type": "ssh"}
    assert made == {
        "name": "mine",
        "public_key": KEY,
        "fingerprint": made["fingerprint"],
        "user_id": "u-member",
        **typed,
    }
    assert len(made["fingerprint"]) == 47
    shown = (await stand.call("GET", f"{PAIRS}/mine", version=version)).json()["keypair"]
    assert shown.items() >= made.items()
    assert (shown["deleted"], shown["deleted_at"], shown["updated_at"]) == (False, None, None)
    (listed,) = (await stand.call("GET", PAIRS, version=version)).json()["keypairs"]
    assert listed == {"keypair": {name: made[name] for name in made if name != "user_id"}}
    gone = await stand.call("DELETE", f"{PAIRS}/mine", version=version)
    assert gone.status_code == (202 if version == "2.1" else 204)
    assert (await stand.call("GET", f"{PAIRS}/mine", version=version)).status_code == 404


@pytest.mark.parametrize("kind", ["ssh", "x509"])
async def test_a_pair_is_drawn_whose_private_half_is_shown_once(stand: Stand, kind: str) -> None:
    body = {"keypair": {"name": "mine", "type": kind}}
    made = (await stand.call("POST", PAIRS, body, version="2.91")).json()["keypair"]
    private = serialization.load_pem_private_key(made["private_key"].encode(), None)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    if kind == "ssh":
        assert made["public_key"].startswith(public.decode())
    else:
        assert made["public_key"].startswith("-----BEGIN CERTIFICATE-----")
    shown = (await stand.call("GET", f"{PAIRS}/mine", version="2.91")).json()["keypair"]
    assert "private_key" not in shown
    assert (shown["type"], shown["fingerprint"]) == (kind, made["fingerprint"])


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.92", {"public_key": "ssh-rsa JUNK nova@ubuntu"}),
        ("2.92", {"public_key": " "}),
        ("2.92", {"public_key": "ssh-rsa " + "A" * 2048 + " me"}),
        ("2.92", {"public_key": "ssh-rsa " + "A" * 20_000}),
        ("2.92", {"public_key": "é"}),
        ("2.92", {"public_key": KEY, "type": "x509"}),
        ("2.92", {"public_key": 7}),
        ("2.92", {"type": "pgp"}),
        ("2.92", {"stray": 1}),
        ("2.1", {"type": "ssh"}),
        ("2.9", {"user_id": "u-member"}),
        ("2.92", {"name": ""}),
        ("2.92", {"name": "k" * 256}),
        ("2.92", {"name": "key_/.\\@:"}),
        ("2.92", {"name": " mine"}),
        ("2.91", {"name": "me@home"}),
    ],
)
async def test_what_is_no_key_pair_is_refused(stand: Stand, version: str, keys: dict[str, object]) -> None:
    answer = await stand.call("POST", PAIRS, {"keypair": {"name": "n", "public_key": KEY} | keys}, version=version)
    assert answer.status_code == 400, answer.text
    assert message(answer)
    assert await names(stand) == []


async def test_from_2_92_on_keys_are_imported_only_and_names_may_be_addresses(stand: Stand) -> None:
    assert (await stand.call("POST", PAIRS, {"keypair": {"name": "n"}}, version="2.92")).status_code == 400
    assert (await enter(stand, "me@home.example")).status_code == 201


async def test_a_name_is_used_once_by_each_user(stand: Stand) -> None:
    assert (await enter(stand)).status_code == 201
    for version in ("2.1", "2.91", "2.92"):
        assert (await enter(stand, version=version)).status_code == 409
    assert (await enter(stand, caller="other")).status_code == 201
    assert await names(stand) == await names(stand, caller="other") == ["mine"]


async def test_only_admins_see_and_change_the_pairs_of_others(stand: Stand) -> None:
    assert (await enter(stand, caller="admin", user_id="u-member")).json()["keypair"]["user_id"] == "u-member"
    assert await names(stand) == ["mine"]
    assert await names(stand, caller="admin") == []
    assert await names(stand, "?user_id=u-member", caller="admin") == ["mine"]
    assert await names(stand, "?user_id=u-member", caller="admin", version="2.9") == []
    assert (await enter(stand, "more", caller="other", user_id="u-member")).status_code == 403
    for version in ("2.10", "2.91"):
        assert (await enter(stand, "more", caller="other", version=version, user_id="u-member")).status_code == 403
    assert (await stand.call("GET", f"{PAIRS}?user_id=u-member", caller="other", version="2.10")).status_code == 403
    path = f"{PAIRS}/mine?user_id=u-member"
    for method in ("GET", "DELETE"):
        assert (await stand.call(method, path, caller="other", version="2.10")).status_code == 403
        assert (await stand.call(method, f"{PAIRS}/mine", caller="other", version="2.10")).status_code == 404
    assert (await stand.call("GET", path, caller="admin", version="2.10")).status_code == 200
    assert (await stand.call("DELETE", path, caller="admin", version="2.10")).status_code == 204
    assert (await stand.call("DELETE", f"{PAIRS}/mine", version="2.1")).status_code == 404


async def test_lists_have_pages_from_2_35_on(stand: Stand) -> None:
    for name in ("a", "b", "c"):
        await enter(stand, name)
    answer = (await stand.call("GET", f"{PAIRS}?limit=2", version="2.35")).json()
    assert [one["keypair"]["name"] for one in answer["keypairs"]] == ["a", "b"]
    assert answer["keypairs_links"][0]["href"].endswith("limit=2&marker=b")
    assert await names(stand, "?limit=2&marker=b") == ["c"]
    assert await names(stand, "?limit=2", version="2.34") == ["a", "b", "c"]
    for wrong in ("limit=x", "marker=none"):
        assert (await stand.call("GET", f"{PAIRS}?{wrong}", version="2.35")).status_code == 400
    for path in (f"{PAIRS}?stray=1", f"{PAIRS}/a?stray=1"):
        assert (await stand.call("GET", path, version="2.75")).status_code == 400
        assert (await stand.call("GET", path, version="2.74")).status_code == 200
    assert (await stand.call("DELETE", f"{PAIRS}/a?stray=1", version="2.75")).status_code == 400


async def test_the_quota_bounds_a_users_pairs(stand: Stand) -> None:
    quota = f"/os-quota-sets/{'11' * 16}"
    body = {"quota_set": {"key_pairs": 1}}
    assert (await stand.call("PUT", quota, body, caller="admin")).status_code == 200
    assert (await enter(stand)).status_code == 201
    for version in ("2.1", "2.91", "2.92"):
        answer = await enter(stand, "more", version=version)
        assert (answer.status_code, "too many key pairs" in message(answer)) == (403, True)
    detail = await stand.call("GET", f"{quota}/detail?user_id=u-member")
    assert detail.json()["quota_set"]["key_pairs"] == {"limit": 1, "in_use": 1, "reserved": 0}
