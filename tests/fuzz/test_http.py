"""Made-up requests against a running Kevel: no 5xx, no undocumented status, no answer of another shape."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from openapi_spec_validator import validate

from kevel.api.app import APIS
from kevel.api.operations import DOCUMENT_PATH, VERSIONS_PATH, Api, Policy
from tests.fuzz.runner import Outcome, Runner
from tests.fuzz.world import World, get_document, open_world

#: A run ends with the one or the other; the second is for machines that are busy with other things.
REQUESTS = 250
SECONDS = 45.0
SEED = 1
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as made:
        yield made


def show(outcome: Outcome) -> str:
    return "\n\n".join(f"{what}\n{text}" for what, text in outcome.findings.items())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("versions", [{}, {"compute": "2.1", "volume": "3.0"}], ids=["newest", "oldest"])
def test_no_made_up_request_gets_an_answer_that_is_not_in_the_documents(world: World, versions: dict[str, str]) -> None:
    outcome = Outcome()
    Runner(world, outcome, versions, SEED).run(SECONDS, most=REQUESTS)
    assert not outcome.findings, show(outcome)
    assert outcome.carried_out
    assert "request failed" not in world.process.log.read_text()


@pytest.mark.parametrize("name", [api.name for api in APIS])
def test_every_api_hands_its_valid_document_to_anybody(world: World, name: str) -> None:
    answer = world.client.http.get(f"/{name}/openapi.json", headers={"X-Auth-Token": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == get_document(world, name, None)
    validate(answer.json())


def test_a_document_of_a_microversion_that_is_none_is_refused(world: World) -> None:
    for version, status in (("2.9999", 406), ("two", 400)):
        assert world.client.http.get("/compute/openapi.json", params={"version": version}).status_code == status
    assert world.client.http.get("/image/openapi.json", params={"version": "2.1"}).status_code == 400


def fill(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "nothing", path)


def newest(api: Api) -> dict[str, str]:
    return {} if api.versions is None else {"OpenStack-API-Version": f"{api.version_service} {api.versions[1]}"}


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_nothing_that_needs_a_token_answers_without_one(world: World, api: Api) -> None:
    for row in api.operations:
        if row.policy is Policy.PUBLIC or (api.versions and not row.serves(api.versions[1])):
            continue
        body = {row.action: None} if row.action is not None else None
        for token in ("", "x" * 43):
            headers = {**newest(api), "X-Auth-Token": token}
            answer = world.client.http.request(row.method, api.prefix + fill(row.path), json=body, headers=headers)
            assert answer.status_code == 401, (row.name, answer.text)
            assert answer.headers["www-authenticate"].startswith("Keystone uri=")


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_a_method_that_a_path_does_not_have_is_405(world: World, api: Api) -> None:
    rows = [row for row in api.operations if row.path not in (VERSIONS_PATH, DOCUMENT_PATH)]
    for path in sorted({fill(row.path) for row in rows}):
        # "/volumes/detail" may be a volume of that name, too.
        known = {row.method for row in rows if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", row.path), path)}
        for method in set(METHODS) - known:
            answer = world.client.http.request(method, api.prefix + path, headers=newest(api))
            assert answer.status_code == 405, (method, path, answer.text)
