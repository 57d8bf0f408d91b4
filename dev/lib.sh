# Shared by the scripts of dev/: paths, and functions that start, await and stop a server.
# Sourced, never run. Everything is under .dev/, so that checkouts do not interfere.
# shellcheck shell=bash

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DEV=$TOP/.dev
VENV=$DEV/venv
# One set of servers: `run/` contains their data, logs and pid files, `env` the variables with which the tests find them.
STATE=${KALEEM_DEV_STATE:-$DEV}
RUN=$STATE/run
# Small Debian systems for servers that this one has no packages of; see dev/tree.
TREES=$DEV/trees
MIRROR=${KALEEM_DEBIAN_MIRROR:-http://deb.debian.org/debian}

# The groups of tests that need a tree of their own.
TREE_GROUPS='rabbitmq-4 systemd'
# The groups of tests that need root, or to install Chromium; scripts that run other things set KALEEM_TEST_WITHOUT to them.
ROOT_GROUPS="$TREE_GROUPS docker chromium btrfs"

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 1
}

# free_ports N: prints N unused loopback ports. They are below the range from which the kernel takes ports for outgoing
# connections, so that no connection takes one before the server binds it.
free_ports() {
    "$VENV/bin/python" - "$1" <<'PY'
import random, socket, sys

held = []
for port in random.sample(range(20000, 32000), 12000):
    if len(held) == int(sys.argv[1]):
        break
    candidate = socket.socket()
    try:
        candidate.bind(("127.0.0.1", port))
    except OSError:
        continue
    held.append(candidate)
print(*(candidate.getsockname()[1] for candidate in held))
PY
}

# started_at PID: prints the start time of a running process, in ticks since boot. With the pid, it identifies a process uniquely.
started_at() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The second field is the program's name and may contain anything; the others follow its last parenthesis.
    read -ra stat <<<"${stat##*) }"
    # A zombie has ended, even if its parent has not collected it yet.
    [[ ${stat[0]} != Z ]] || return 1
    echo "${stat[19]}"
}

# start NAME COMMAND...: runs a server in its own session, so that Ctrl-C does not reach it before our trap. It writes its
# own pid file before it starts: whenever we are interrupted, every running server can be found.
start() {
    local pid_file=$RUN/$1.pid log=$RUN/$1.log
    shift
    # shellcheck disable=SC2016 # expanded by the inner shell
    setsid bash -ec 'read -ra stat </proc/$$/stat; echo "$$ ${stat[21]}" >"$0"; exec "$@"' "$pid_file" "$@" >"$log" 2>&1 </dev/null &
    # Otherwise the shell reports its end.
    disown
    until [[ -s $pid_file ]]; do
        kill -0 $! 2>/dev/null || die "cannot write $pid_file"
        sleep 0.05
    done
}

alive() {
    local pid since
    read -r pid since <"$RUN/$1.pid" && [[ $(started_at "$pid") == "$since" ]]
}

# await NAME SECONDS COMMAND...: repeats the command until it succeeds; gives up when the server ends or the time limit is reached.
await() {
    local name=$1 limit=$2 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! alive "$name"; then
            tail -n 30 "$RUN/$name.log" >&2
            die "$name ended before it was ready; its log ends above"
        fi
        if ((SECONDS >= deadline)); then
            tail -n 30 "$RUN/$name.log" >&2
            die "$name was not ready after $limit s; its log ends above"
        fi
        sleep 0.2
    done
}

# stop NAME: ends the server and its children. It cannot hit another process: pid and start time must both match.
# It kills the server instead of asking: the data are removed too, and an orderly shutdown takes many seconds.
stop() {
    local pid children child
    if alive "$1"; then
        read -r pid _ <"$RUN/$1.pid"
        read -r children <"/proc/$pid/task/$pid/children" || true
        kill -KILL -- "-$pid" 2>/dev/null || true
        while alive "$1"; do sleep 0.1; done
        # The first process of a PID namespace ends after all others in it; until then they may write.
        for child in $children; do
            while started_at "$child" >/dev/null; do sleep 0.1; done
        done
    fi
    rm -f "$RUN/$1.pid"
}

# stop_all: stops the servers in $RUN, last started first, and removes their data. Ignores signals.
stop_all() {
    local name
    trap '' INT TERM HUP
    for name in docker systemd s3 rabbitmq-4 rabbitmq epmd-4 epmd mongo; do
        [[ ! -f $RUN/$name.pid ]] || stop "$name"
    done
    # weed puts its sockets there regardless of TMPDIR.
    [[ ! -f $RUN/s3/ports ]] || xargs -I{} -a "$RUN/s3/ports" find /tmp -maxdepth 1 -name 'seaweedfs-*-{}.sock' -delete
    rm -rf "$RUN" "$STATE/env" "$STATE/without"
}

# without NAME TESTS REASON: these tests cannot run here. They pass without doing anything, because KALEEM_TEST_WITHOUT contains the
# name; dev/test lists them in its last lines, and fails in CI.
without() {
    say "$2 cannot run: $3"
    printf '%s did not run: %s\n' "$2" "$3" >>"$STATE/without"
    KALEEM_TEST_WITHOUT="${KALEEM_TEST_WITHOUT:+$KALEEM_TEST_WITHOUT }$1"
}

# stop_on_exit COMMAND: runs the command whenever the script ends; the exit code shows the signal.
stop_on_exit() {
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # shellcheck disable=SC2064 # the command is complete now
    trap "$1" EXIT
}

chromium_is_installed() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }

listens() { (: <>"/dev/tcp/127.0.0.1/$1"); }

# http_ok PORT PATH CREDENTIALS: succeeds if a GET with basic authentication is answered with 200.
# In a subshell, because a shell exits if its `exec` cannot open a redirection.
http_ok() (
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.0\r\nAuthorization: Basic %s\r\n\r\n' "$2" "$(printf %s "$3" | base64)" >&3
    read -r -t 5 status <&3
    [[ $status == *" 200 "* ]]
)
