"""What a person has to look at goes to the log, once: when it is found."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from kevel.domain.findings import Finding, describe_finding, is_unknown, needs_person

log = structlog.get_logger(__name__)


def raise_alarms(new: Iterable[Finding]) -> None:
    """Log findings that were not there before: loudly what Kevel does not put right by itself."""
    for finding in new:
        tell = log.error if needs_person(finding) else log.warning
        event = "unknown to the records" if is_unknown(finding) else "records and reality differ"
        tell(event, kind=finding.kind.value, subject=finding.subject, key=finding.key, text=describe_finding(finding))
