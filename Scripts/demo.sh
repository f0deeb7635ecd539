#!/usr/bin/env bash
# Starts a server on a fresh data directory, replays a generated day through it, checks every count,
# and checks the journal that is left.
set -euo pipefail
tally=$1
data=$(mktemp -d "${TMPDIR:-/tmp}/tally-demo.XXXXXX")
log=$data.log
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$data" "$log"
}
trap finish EXIT

"$tally" serve --data "$data" --port 0 2>"$log" &
server=$!
port=
for _ in $(seq 100); do
    port=$(sed -n 's/.*address=[^ ]*:\([0-9]*\).*/\1/p' "$log")
    [ -n "$port" ] && break
    sleep 0.1
done
[ -n "$port" ] || { cat "$log"; exit 1; }
cat "$log"

echo
"$tally" replay --port "$port"

kill "$server"
wait "$server"
server=
echo
"$tally" journal verify "$data"
