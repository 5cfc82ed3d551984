#!/usr/bin/env bash
# Run every check of the project, all of them even when one fails; pytest comes last, so that its summary ends the output.
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
if [ $# -gt 0 ]; then
    printf '== pytest\n'
    $bin/python -m pytest "$@"
    code=$?
else
    # Tests that boot guests wait more than they work, so they run beside the others; their output comes last.
    guests_log=$(mktemp)
    $bin/python -m pytest -m qemu -p no:cacheprovider >"$guests_log" 2>&1 &
    guests=$!
    trap 'kill -INT $guests 2>/dev/null; wait $guests; rm -f "$guests_log"' EXIT
    printf '== pytest, without guests\n'
    $bin/python -m pytest -m 'not qemu'
    code=$?
    wait $guests
    guests_code=$?
    printf '== pytest, with guests\n'
    cat "$guests_log"
    [ $code -eq 0 ] && code=$guests_code
fi
[ $code -eq 0 ] && [ ${#failed[@]} -gt 0 ] && code=1
exit $code
