#!/bin/sh
# Installs what the lab, the demo and the tests need on a Debian machine: a PostgreSQL server, Redis
# and a C linker for cargo. Does nothing when they are there.
#
#     sh tests/lab/setup.sh
set -eu

missing=""
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null 2>&1; then
    missing="$missing postgresql"
fi
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"

if [ -z "$missing" ]; then
    echo "lab: PostgreSQL, Redis and cc are installed"
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "lab: this machine has no apt-get; install by hand:$missing" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "lab: to install$missing, run this as root: sh tests/lab/setup.sh" >&2
        exit 1
    fi
    sudo="sudo"
fi

# With RUNLEVEL=1 the packages' scripts do not start their services: the lab starts its own servers.
install() {
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y --no-install-recommends "$@" </dev/null
}

echo "lab: installing$missing"
$sudo env DEBIAN_FRONTEND=noninteractive apt-get update </dev/null ||
    echo "lab: apt-get update failed; trying with the package lists at hand" >&2

# A cluster of the system would take port 5432, memory and start-up time, and nobody asked for it.
no_cluster=/etc/postgresql-common/createcluster.d/dbtriage-lab.conf
case "$missing" in
*postgresql*)
    install postgresql-common
    $sudo mkdir -p "${no_cluster%/*}"
    trap '$sudo rm -f "$no_cluster"' EXIT
    echo "create_main_cluster = false" | $sudo tee "$no_cluster" >/dev/null
    ;;
esac
# shellcheck disable=SC2086 # A list of package names, to be split.
install $missing
echo "lab: installed$missing"
