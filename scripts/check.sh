#!/usr/bin/env bash
# Run every check of the project, all of them even when one fails; pytest comes last, so that its summary ends the output.
# Only what reads the record of a whole run comes behind it: has a test seen each answer that the APIs' tables list?
# Arguments go to pytest. Exit code: 0 when everything passed; pytest's own, or else 1.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
check() { # check NAME COMMAND...
    local name=$1
    shift
    printf '== %s\n' "$name"
    "$@" || failed+=("$name")
}

bin=.venv/bin
check 'ruff check' $bin/ruff check .
check 'ruff format' $bin/ruff format --check .
check 'mypy' $bin/mypy
check 'drawn docs' $bin/python scripts/draw_ladder.py --check
check 'lint-imports' $bin/lint-imports --no-logo
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed before the tests: %s\n' "$(IFS=,; echo "${failed[*]}")"
fi
if [ $# -eq 0 ]; then
    # A file at a time goes to whoever is free, in the order of tests/conftest.py. One more worker than cores: tests that
    # boot guests or talk to processes wait more than they work.
    answered=$(mktemp)
    trap 'rm -f "$answered"' EXIT
    export KEVEL_ANSWERED=${KEVEL_ANSWERED:-$answered}
    set -- --numprocesses "$(($(nproc) + 1))" --dist loadfile --no-loadscope-reorder
fi
printf '== pytest\n'
$bin/python -m pytest "$@"
code=$?
if [ $code -eq 0 ] && [ -n "${answered:-}" ]; then
    check 'answers that tests have seen' $bin/python -m tests.answered "$KEVEL_ANSWERED"
fi
[ $code -eq 0 ] && [ ${#failed[@]} -gt 0 ] && code=1
exit $code
