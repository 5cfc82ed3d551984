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
    # Two lanes, one for each core. Tests that boot guests wait more than they work, so they run beside the others; behind
    # them come the ones that start processes of their own. Each lane's output is whole, the second one's comes last.
    processes=(tests/crowd tests/model tests/system tests/tempest)
    lane_log=$(mktemp)
    (
        $bin/python -m pytest -m qemu -p no:cacheprovider
        guests_code=$?
        $bin/python -m pytest -m 'not qemu' -p no:cacheprovider "${processes[@]}"
        code=$?
        [ $code -eq 0 ] && code=$guests_code
        exit $code
    ) >"$lane_log" 2>&1 &
    lane=$!
    trap 'pkill -INT -P $lane 2>/dev/null; wait $lane; rm -f "$lane_log"' EXIT
    printf '== pytest, without guests and processes\n'
    $bin/python -m pytest -m 'not qemu' "${processes[@]/#/--ignore=}"
    code=$?
    wait $lane
    lane_code=$?
    printf '== pytest, with guests and processes\n'
    cat "$lane_log"
    [ $code -eq 0 ] && code=$lane_code
fi
[ $code -eq 0 ] && [ ${#failed[@]} -gt 0 ] && code=1
exit $code
