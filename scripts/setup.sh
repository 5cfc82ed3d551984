#!/usr/bin/env bash
# Make this clone of Kevel ready to run: Debian's packages, libvirt's user, the virtual environment, the tiny guest.
# Run it as often as you like: it does what is missing and nothing else. What it made is under .venv and .cache.
#
# Exit codes: 0 ready; 1 a step failed, its last words are printed; 2 this machine cannot be used as it is, and why.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=.cache
stamps=$cache/stamps
logs=$cache/logs
guest=$cache/guest
index_updated=no
# Why a limit: another installer may hold apt's lock; a wait without an end would look like a hang.
apt=(apt-get -q -y -o DPkg::Lock::Timeout=300)
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf 'setup: %s\n' "$*"; }

stop() { # stop CODE TEXT...
    local code=$1
    shift
    printf 'setup: %s\n' "$@" >&2
    exit "$code"
}

# run_step NAME COMMAND...: run it with its output in a log, and show the log's end only when it fails.
run_step() {
    local log=$logs/$1.log
    shift
    # Without the lock's descriptor: a service that a package starts must not keep the lock.
    "$@" >"$log" 2>&1 </dev/null 9>&- && return
    tail -n 20 "$log" >&2
    stop 1 "failed: $*" "the whole output is in $log"
}

# A stamp holds the hash of what a step was made from; the step is done again when that hash has changed.
hash_inputs() { sha256sum -- "$@" | sha256sum | cut -d' ' -f1; }
is_stamped() { [ -e "$stamps/$1" ] && [ "$(<"$stamps/$1")" = "$2" ]; }
write_stamp() { printf '%s\n' "$2" >"$stamps/$1"; }

# Prints the Python 3.11 to use, or nothing. What it calls itself, not what was found on PATH: that may be a launcher.
find_python() {
    local name
    for name in python3.11 python3; do
        "$name" -c 'import sys; sys.version_info[:2] == (3, 11) and print(sys.executable)' 2>/dev/null | grep . && return
    done
    return 0
}

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

has_headers() {
    "$1" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'
}

# Prints the names of the packages that are missing here, one on a line.
list_missing_packages() {
    local wanted installed
    mapfile -t wanted < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' requirements/debian.txt)
    # A Python that somebody built brings its own; Debian's comes in parts.
    [ -n "$python" ] || wanted+=(python3.11)
    { [ -n "$python" ] && has_venv "$python"; } || wanted+=(python3.11-venv)
    { [ -n "$python" ] && has_headers "$python"; } || wanted+=(python3.11-dev)
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
    comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) <(sed -n 's/^installed //p' <<<"$installed" | sort -u)
}

update_index() {
    say "updating apt's package index"
    run_step apt-update "${apt[@]}" update
    index_updated=yes
}

# Debian's server package makes a cluster and starts it, unless it is told not to. The tests start servers of their own,
# and a machine that has PostgreSQL already is left as it is.
keep_postgres_quiet() {
    local settings=/etc/postgresql-common/createcluster.conf
    run_step apt-postgresql "${apt[@]}" install --no-install-recommends postgresql-common
    grep -Eq '^ *create_main_cluster' $settings || printf 'create_main_cluster = false\n' >>$settings
}

install_packages() {
    local missing
    mapfile -t missing < <(list_missing_packages)
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        stop 2 "Debian packages are missing, and only root can install them. As root:" \
            "    apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    fi
    update_index
    case " ${missing[*]} " in *" postgresql-15 "*) keep_postgres_quiet ;; esac
    say "installing Debian packages: ${missing[*]}"
    run_step apt-install "${apt[@]}" install --no-install-recommends "${missing[@]}"
    python=$(find_python)
    [ -n "$python" ] || stop 2 "no Python 3.11 found after installing it, neither as python3.11 nor as python3"
}

# libvirt's QEMU driver, when root runs it, refuses to start without this user, even if told to run guests as root.
# The numbers are those that Debian's libvirt-daemon-system gives it.
make_libvirt_user() {
    [ "$(id -u)" -eq 0 ] || return 0
    if ! getent group libvirt-qemu >/dev/null; then
        say "making the group libvirt-qemu"
        run_step groupadd groupadd --system --gid 64055 libvirt-qemu
    fi
    if ! getent passwd libvirt-qemu >/dev/null; then
        say "making the user libvirt-qemu"
        run_step useradd useradd --system --uid 64055 --gid libvirt-qemu --home-dir /var/lib/libvirt \
            --no-create-home --shell /usr/sbin/nologin libvirt-qemu
    fi
}

make_environment() {
    local inputs
    inputs=$(hash_inputs requirements/build.txt requirements/dev.txt)
    if ! is_stamped environment "$inputs" || ! .venv/bin/python -c '' 2>/dev/null; then
        say "making .venv with $python ($("$python" --version)) from requirements/build.txt and dev.txt; about a minute"
        run_step venv "$python" -m venv .venv
        # What builds the others comes first: nothing is built with anything that is not locked.
        run_step pip-build .venv/bin/pip install --require-hashes -r requirements/build.txt
        run_step pip-dev .venv/bin/pip install --require-hashes --no-build-isolation -r requirements/dev.txt
        rm -f "$stamps/project"
        write_stamp environment "$inputs"
    fi
    # Where the clone is belongs to the inputs: an editable install points there.
    inputs="$(hash_inputs pyproject.toml) $PWD"
    if ! is_stamped project "$inputs"; then
        say "installing Kevel itself into .venv"
        run_step pip-kevel .venv/bin/pip install --no-deps --no-build-isolation --editable .
        write_stamp project "$inputs"
    fi
}

make_guest() {
    local inputs file complete=yes
    inputs=$(hash_inputs scripts/build_guest.py scripts/guest/*)
    for file in vmlinuz initrd.img tiny.img; do
        [ -s "$guest/$file" ] || complete=no
    done
    [ $complete = yes ] && is_stamped guest "$inputs" && return
    # An index that is empty or old has none of the packages that the archive has today.
    [ "$(id -u)" -ne 0 ] || [ $index_updated = yes ] || update_index
    say "building the tiny guest in $guest"
    run_step guest .venv/bin/python scripts/build_guest.py "$guest"
    write_stamp guest "$inputs"
}

main() {
    [ "$(uname -m)" = x86_64 ] || stop 2 "Kevel's guests are x86_64; this machine is $(uname -m)"
    command -v dpkg-query >/dev/null || stop 2 "this set-up knows Debian 12 only, and there is no dpkg here"
    mkdir -p "$stamps" "$logs"
    # Two set-ups at once in one clone would each write half of .venv.
    exec 9>"$cache/setup.lock"
    flock -w 900 9 || stop 1 "another set-up has been running in this clone for 15 minutes"
    python=$(find_python)
    install_packages
    make_libvirt_user
    make_environment
    make_guest
}

main
