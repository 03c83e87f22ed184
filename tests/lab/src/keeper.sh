# The keeper of one lab: starts its servers, then waits for the end of file on standard input, which
# comes when the owner ends, however it ends; then stops the servers and removes the directory.
# Given by the owner: LAB (the directory), PG_BIN, STANDBY and REDIS (empty: none).
# The owner's signals are not ours: only the pipe decides.
trap '' HUP INT TERM
cd /

# The processes that wait for the servers.
servers=

# Runs a server; its end leaves a line in the file which the owner looks at while it waits.
serve() {
    name=$1
    shift
    (
        "$@" </dev/null >>"$LAB/$name.log" 2>&1
        echo "$name" >>"$LAB/ended"
    ) &
    servers="$servers $!"
}

start() {
    [ -z "$REDIS" ] || serve redis "$REDIS" "$LAB/redis.conf"
    # No configuration is read before the copy, so both clusters begin at the same checkpoint.
    "$PG_BIN/initdb" -D "$LAB/primary" -U postgres -A trust -N -k --locale=C -E UTF8 \
        </dev/null >>"$LAB/primary.log" 2>&1 || return 1
    # Nothing is started for an owner that has ended meanwhile.
    [ -d "/proc/$PPID" ] || return 1
    if [ -n "$STANDBY" ]; then
        cp -a "$LAB/primary" "$LAB/standby" || return 1
        cat "$LAB/standby.conf" >>"$LAB/standby/postgresql.conf" || return 1
        : >"$LAB/standby/standby.signal" || return 1
    fi
    cat "$LAB/primary.conf" >>"$LAB/primary/postgresql.conf" || return 1
    serve primary "$PG_BIN/postgres" -D "$LAB/primary"
    [ -z "$STANDBY" ] || serve standby "$PG_BIN/postgres" -D "$LAB/standby"
}

# A test may have frozen a server; a frozen one hears nothing but SIGKILL.
stop_postgres() {
    [ -s "$1/postmaster.pid" ] || return 0
    kill -CONT "$(head -n 1 "$1/postmaster.pid")"
    "$PG_BIN/pg_ctl" -D "$1" -m immediate -t 2 -w stop
}

# Every process of a server has the server's directory as its own: what survived is found by that.
kill_rest() {
    for process in /proc/[0-9]*; do
        case "$(readlink "$process/cwd")" in
        "$LAB" | "$LAB "* | "$LAB"/*) kill -KILL "${process#/proc/}" ;;
        esac
    done
}

start </dev/null || echo "initdb" >>"$LAB/ended"

while read -r _; do :; done

exec >/dev/null 2>&1 </dev/null
[ ! -s "$LAB/redis.pid" ] || kill -KILL "$(cat "$LAB/redis.pid")"
stop_postgres "$LAB/primary" &
primary=$!
stop_postgres "$LAB/standby" &
wait "$primary" "$!"
kill_rest
# A server that was just being started shows up there only later. We are deaf to TERM.
while sleep 0.05 && [ -d "$LAB" ]; do kill_rest; done &
killer=$!
# Each is a word of its own.
[ -z "$servers" ] || wait $servers
kill -KILL "$killer"
# A server that was just being started may still write: then the removal fails, and we try again.
tries=0
until rm -rf "$LAB" || [ "$tries" -eq 50 ]; do
    tries=$((tries + 1))
    kill_rest
done
