"""Made-up requests against a running Kevel, one after another, and what its answers break.

Schemathesis makes the requests up from the documents, fitting and not fitting, and checks the answers. Which operation
comes next is drawn here: mostly one that the last answer links to, with the id that it gave, so that chains go deep.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.document import merge_documents
from tests.fuzz.world import World, get_document

APIS: Final = ("identity", "compute", "volume", "image", "kevel")
#: A request that takes longer is a finding.
REQUEST_TIMEOUT_S: Final = 20.0
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: Requests of one run at the most.
REQUESTS_MAX: Final = 10_000_000
#: Requests that are made up for one operation at a time.
BATCH: Final = 3
#: Findings that are kept; of a flood the rest is left out.
FINDINGS_MAX: Final = 100
#: How often the next request follows a link of the last answer.
FOLLOW_LINKS: Final = 0.7

# A JSON patch is JSON, whatever its media type says.
schemathesis.serializer.alias("application/openstack-images-v2.1-json-patch", "application/json")


@dataclass
class Outcome:
    """What was asked, and what of it went wrong."""

    #: Answers by operation and status.
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    #: The request and the answer that show it, by what was found.
    findings: dict[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return sum(self.answers.values())

    @property
    def operations(self) -> set[str]:
        """The operations that were asked for."""
        return {operation for operation, _ in self.answers}

    @property
    def carried_out(self) -> set[str]:
        """The operations that succeeded at least once."""
        return {operation for operation, status in self.answers if status < 400}

    def add(self, what: str, text: str) -> None:
        """Keep a finding, unless one like it is there."""
        if what not in self.findings and len(self.findings) < FINDINGS_MAX:
            self.findings[what] = text[:4000]


def load_schema(world: World, versions: dict[str, str]) -> Any:
    """All APIs at these microversions, the newest where none is named."""
    document = merge_documents({name: get_document(world, name, versions.get(name)) for name in APIS})
    document["paths"] = {path: item for path, item in document["paths"].items() if not _is_endless(item)}
    for item in document["paths"].values():
        for one in item.values():
            # Not to be made up: the answers are checked against the document of that microversion.
            one["x-version"] = _take_version(one["parameters"])
    wanted = {"base-url": world.url, "generation": {"database": "none", "with-security-parameters": False}}
    return schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict(wanted))


def _take_version(parameters: list[dict[str, Any]]) -> str | None:
    for parameter in parameters:
        if parameter["name"] == "OpenStack-API-Version":
            parameters.remove(parameter)
            return str(parameter["schema"]["const"])
    return None


def _is_endless(item: dict[str, Any]) -> bool:
    """Does a path answer with a stream of events?"""
    answers = [answer for one in item.values() for answer in one["responses"].values()]
    return any("text/event-stream" in answer.get("content", {}) for answer in answers)


class Runner:
    """One document's operations, the requests made up for each, and the way from one to the next."""

    def __init__(self, world: World, outcome: Outcome, versions: dict[str, str], seed: int) -> None:
        self._world = world
        self._outcome = outcome
        self._random = random.Random(seed)
        self._session = requests.Session()
        schema = load_schema(world, versions)
        self._operations = {one.definition.raw["operationId"]: one for one in map(_unwrap, schema.get_all_operations())}
        self._ready: dict[str, list[Any]] = {name: [] for name in self._operations}

    def run(
        self, seconds: float, *, most: int = REQUESTS_MAX, progress: Callable[[Outcome], None] | None = None
    ) -> None:
        """Send requests until the time is over, or so many have been sent; adds to the outcome."""
        end = time.monotonic() + seconds
        shown = time.monotonic()
        names = list(self._operations)
        following: tuple[str, dict[str, Any]] | None = None
        # Everything once, in an order of the seed's, and then at random.
        first = self._random.sample(names, len(names))
        for _ in range(most):
            if time.monotonic() > end:
                break
            if following is None:
                following = (first.pop() if first else self._random.choice(names)), {}
            following = self._step(*following)
            if progress is not None and time.monotonic() - shown > 10:
                shown = time.monotonic()
                progress(self._outcome)
        self._session.close()

    def _step(self, name: str, known: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """One request; which link to follow next, with the values that it gives."""
        case = self._take(name)
        if case is None:
            return None
        self._world.aim(case, known, self._random)
        label = self._operations[name].label
        try:
            answer = case.call(session=self._session, timeout=REQUEST_TIMEOUT_S)
        except requests.RequestException as error:
            self._outcome.add(f"{label}: no answer ({type(error).__name__})", f"{error}\n{case.as_curl_command()}")
            return None
        self._outcome.answers[label, answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as group:
            for failure in group.exceptions:
                self._note(label, failure, answer, case)
        return self._follow(name, case, answer)

    def _note(self, label: str, failure: Exception, answer: Any, case: Any) -> None:
        title = failure.title if isinstance(failure, Failure) else type(failure).__name__
        text = f"{getattr(failure, 'message', failure)}\n{answer.text[:1000]}\n{case.as_curl_command()}"
        place = next((line for line in text.splitlines() if "at:" in line or "Location" in line), "")
        self._outcome.add(f"{label}: {answer.status_code} {title} {place.strip()}", text)

    def _take(self, name: str) -> Any:
        """A request that was made up for that operation; None if there can be none."""
        ready = self._ready[name]
        if not ready:
            operation, seed = self._operations[name], self._random.getrandbits(32)
            # Any text is a good path variable and any bytes are a good file: nothing can be made up wrong there.
            can_be_wrong = "/file" not in operation.path and len(operation.query) + len(operation.body) > 0
            wrong = can_be_wrong and self._random.random() < 1 / 3
            ready.extend(_make_cases(operation, GenerationMode.NEGATIVE if wrong else GenerationMode.POSITIVE, seed))
        return ready.pop() if ready else None

    def _follow(self, name: str, case: Any, answer: Any) -> tuple[str, dict[str, Any]] | None:
        responses = self._operations[name].definition.raw["responses"]
        links = responses.get(str(answer.status_code), {}).get("links", {})
        if not links or self._random.random() > FOLLOW_LINKS:
            return None
        link = self._random.choice(list(links.values()))
        values = {key: _evaluate(rule, case, answer) for key, rule in link["parameters"].items()}
        if link["operationId"] not in self._operations or None in values.values():
            return None
        return link["operationId"], values


def _unwrap(result: Any) -> Any:
    return result.ok()


def _make_cases(operation: Any, mode: GenerationMode, seed: int) -> list[Any]:
    made: list[Any] = []

    @seeded(seed)
    @settings(
        max_examples=BATCH,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        made.append(case)

    try:
        collect()
    except Unsatisfiable:  # whatever is in this request, it fits
        return []
    return made[::-1]


def _evaluate(rule: str, case: Any, answer: Any) -> Any:
    """What "$request.path.NAME" or "$response.body#POINTER" stands for; None: it is not there."""
    if rule.startswith("$request.path."):
        return case.path_parameters.get(rule.removeprefix("$request.path."))
    found: Any = answer.json()
    for part in rule.removeprefix("$response.body#/").split("/"):
        if isinstance(found, list):
            found = found[int(part)] if int(part) < len(found) else None
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found
