#!/usr/bin/env bash
# Three NATS servers and three nodes on this machine: replays a generated day through one node while another
# is killed and comes back, checks every count, and shows the cluster at work.
set -euo pipefail
tally=$1
nats=$2
directory=$(mktemp -d "${TMPDIR:-/tmp}/tally-cluster.XXXXXX")
processes=()
finish() {
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    for process in "${processes[@]}"; do wait "$process" 2>/dev/null || true; done
    rm -rf "$directory"
}
trap finish EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

routes=()
ports=()
for number in 1 2 3; do
    ports+=("$(free_port)")
    routes+=("$(free_port)")
done
list=$(printf ', nats://127.0.0.1:%s' "${routes[@]}")
servers=$(printf ',nats://127.0.0.1:%s' "${ports[@]}")
servers=${servers:1}
for number in 0 1 2; do
    mkdir -p "$directory/nats$number"
    cat >"$directory/nats$number.conf" <<EOF
server_name: nats$number
listen: 127.0.0.1:${ports[$number]}
jetstream { store_dir: "$directory/nats$number", sync_interval: always }
cluster { name: demo, listen: 127.0.0.1:${routes[$number]}, routes: [${list:2}] }
EOF
    "$nats" -c "$directory/nats$number.conf" >"$directory/nats$number.log" 2>&1 &
    processes+=($!)
done

echo "three NATS servers: $servers"
made=
for _ in $(seq 60); do
    made=$("$tally" cluster init --nats "$servers" --logs 4 2>&1) && break
    sleep 0.5
done
echo "$made"

addresses=()
nodes=()
start_node() {
    local number=$1
    "$tally" serve --data "$directory/node$number" --port "${addresses[$number]}" \
        --nats "$servers" --checkpoint-seconds 5 >>"$directory/node$number.log" 2>&1 &
    nodes[$number]=$!
    processes+=($!)
}
for number in 0 1 2; do
    addresses+=("$(free_port)")
    start_node "$number"
done
until "$tally" cluster status --nats "$servers" >"$directory/status" 2>&1 &&
    [ "$(grep -c serving "$directory/status")" = 3 ]; do
    sleep 0.5
done
cat "$directory/status"

echo
echo "a day's updates go to the first node; in the middle the third one is killed, and comes back"
"$tally" replay --port "${addresses[0]}" --posts 100000 >"$directory/replay" 2>&1 &
replay=$!
sleep 2
kill -9 "${nodes[2]}"
wait "${nodes[2]}" 2>/dev/null || true
sleep 2
start_node 2
wait "$replay" || { cat "$directory/replay"; exit 1; }
sed 's/.*\r//' "$directory/replay"

echo
until "$tally" cluster status --nats "$servers" >"$directory/status" 2>&1; do sleep 0.5; done
cat "$directory/status"
for number in 0 1 2; do
    "$tally" incr --port "${addresses[$number]}" demo:shared >/dev/null
done
sleep 0.5
for number in 0 1 2; do
    value=$("$tally" get --port "${addresses[$number]}" demo:shared)
    echo "node $number: demo:shared is $value"
    [ "$value" = 3 ]
done
