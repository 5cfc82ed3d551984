"""Run Tempest against Kevel: `python -m tests.tempest --help`. Exit code 1 when a test failed, 2 when none ran."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import subunit
import testtools
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.tempest.stand import HYPERVISORS, Stand

#: What issue and CI call by name.
PARTS: Final = {
    "volume": r"^tempest\.api\.volume\.(?!admin\.)",
    "volume-admin": r"^tempest\.api\.volume\.admin\.",
    "compute-volumes": r"^tempest\.api\.compute\.(volumes|admin\.test_volume)",
}
LIST_TIMEOUT_S: Final = 120.0


def main() -> int:
    """Parse, run, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.tempest", description=__doc__)
    parser.add_argument("tests", nargs="?", default="volume", help=f"a regular expression, or {', '.join(PARTS)}")
    parser.add_argument("--hypervisor", choices=HYPERVISORS, default=HYPERVISORS[0])
    parser.add_argument("--jobs", type=int, default=2, help="tests at once")
    parser.add_argument("--json", type=Path, help="where to write each test's result")
    parser.add_argument("--keep", action="store_true", help="leave the directory with all logs")
    wanted = parser.parse_args()
    regex = PARTS.get(wanted.tests, wanted.tests)
    stand = Stand(wanted.hypervisor)
    try:
        stand.start()
        results = run_tempest(stand.workspace, regex, jobs=wanted.jobs)
    finally:
        stand.close(keep=wanted.keep)
    if wanted.keep:
        sys.stderr.write(f"kept: {stand.root}\n")
    if wanted.json is not None:
        wanted.json.write_text(json.dumps(results, indent=1))
    return tell(results)


def run_tempest(workspace: Path, regex: str, *, jobs: int) -> dict[str, dict[str, str]]:
    """Each test's status ("success", "skip", "fail") and what it said."""
    environment = {**os.environ, "TEMPEST_CONFIG_DIR": str(workspace / "etc"), "TEMPEST_CONFIG": "tempest.conf"}
    stestr = [str(Path(sys.executable).with_name("stestr"))]
    listed = subprocess.run(
        [*stestr, "list", regex],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIST_TIMEOUT_S,
    )
    total = sum(1 for line in listed.stdout.splitlines() if line.startswith("tempest."))
    results: dict[str, dict[str, str]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Tempest", total=total)

        def count(test: testtools.testresult.real.TestDict) -> None:
            if test["status"] in ("exists", "inprogress"):
                return
            details = {name: content.as_text() for name, content in test["details"].items()}
            said = details.get("reason") or details.get("traceback") or "\n".join(details.values())
            results[test["id"]] = {"status": test["status"], "said": said}
            if test["status"] == "fail":
                progress.console.print(f"failed: {test['id']}", markup=False)
            progress.update(task, advance=0 if test["id"].startswith("setUpClass") else 1)

        command = [*stestr, "run", "--subunit", "--concurrency", str(jobs), regex]
        with subprocess.Popen(command, cwd=workspace, env=environment, stdout=subprocess.PIPE) as process:
            result = testtools.StreamToDict(count)
            result.startTestRun()
            subunit.ByteStreamToStreamResult(process.stdout, non_subunit_name="stdout").run(result)
            result.stopTestRun()
    return results


def tell(results: dict[str, dict[str, str]]) -> int:
    """Print what failed and the counts."""
    counts = Counter(one["status"] for one in results.values())
    for name, one in sorted(results.items()):
        if one["status"] == "fail":
            said = one["said"].strip().splitlines()
            sys.stdout.write(f"FAILED {name}\n    {said[-1] if said else ''}\n")
    for name, one in sorted(results.items()):
        if one["status"] == "skip":
            sys.stdout.write(f"skipped {name}: {one['said'].strip()}\n")
    sys.stdout.write(f"{counts['success']} passed, {counts['skip']} skipped, {counts['fail']} failed\n")
    if not results:
        return 2
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
