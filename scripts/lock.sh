#!/usr/bin/env bash
# Write requirements/{build,run,dev}.txt anew: every package with its version and hashes, for Python 3.11.
# Pins that still fit stay; `--upgrade`, or `--upgrade-package NAME`, moves them. No index host is written into the files.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=.cache/lock
if [ ! -x $tools/bin/uv ]; then
    .venv/bin/python -m venv $tools
    $tools/bin/pip -q install --require-hashes -r requirements/lock.txt
fi

compile() { # compile OUTPUT INPUT...
    local output=requirements/$1.txt
    shift
    $tools/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 \
        --no-header --no-emit-index-url --no-emit-find-links --output-file "$output" "$@" >/dev/null
    echo "lock: $output: $(grep -c '==' "$output") packages"
}

compile lock requirements/lock.in "$@"
compile build requirements/build.in "$@"
compile run pyproject.toml "$@"
compile dev pyproject.toml --extra dev --constraint requirements/run.txt "$@"
