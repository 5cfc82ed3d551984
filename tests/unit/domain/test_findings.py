"""What a comparison can find has words, a remedy, and a person where one is needed."""

from __future__ import annotations

import pytest

from kevel.domain.findings import (
    Finding,
    FindingKind,
    describe_finding,
    describe_remedy,
    is_unknown,
    needs_person,
)


@pytest.mark.parametrize("kind", FindingKind)
def test_every_kind_says_what_differs_and_what_is_done_about_it(kind: FindingKind) -> None:
    finding = Finding(
        subject="host:here", kind=kind, key="the-key", volume_id="the-volume", server_id="the-server",
        attachment_id="the-attachment",
    )  # fmt: skip
    for text in (describe_finding(finding), describe_remedy(finding)):
        assert text.endswith(".")
        assert "{" not in text
        assert "None" not in text
    assert any(name in describe_finding(finding) for name in ("the-", "here"))


def test_what_nobody_names_is_for_a_person_and_never_removed() -> None:
    for kind in FindingKind:
        finding = Finding(subject="host:here", kind=kind, key="k")
        if is_unknown(finding):
            assert needs_person(finding)
            assert "never removes" in describe_remedy(finding)
    assert sum(is_unknown(Finding(subject="s", kind=kind, key="k")) for kind in FindingKind) == 5
