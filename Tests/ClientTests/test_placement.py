"""Five nodes, each of which has a part: whoever is asked finds the way, and clients that can are told it."""

import itertools
import json
import random
import subprocess
import threading
import time
import urllib.request

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from redis.cluster import RedisCluster

from load import integers, run_all
from protocol import RawConnection, encode
from servers import ClusterUnderTest, run_tally, tool, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = ClusterUnderTest(
        tmp_path_factory.mktemp("placement"), logs=8, count=5, copies=2,
        flags=("--threads", "2"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(autouse=True)
def everything_runs(cluster):
    cluster.heal()
    cluster.wait_until_placed()


def uuid7():
    return (f"{int(time.time() * 1000):012x}7{random.getrandbits(12):03x}"
            f"{0x8000 | random.getrandbits(14):04x}{random.getrandbits(48):012x}")


def test_every_node_is_master_of_its_share(cluster):
    slots = cluster._slot_list(cluster.nodes[0])
    counts = {}
    for begin, end, port in slots:
        counts[port] = counts.get(port, 0) + end - begin + 1
    assert set(counts) == {node.port for node in cluster.nodes}
    assert max(counts.values()) <= 2 * 16384 // 8
    held = [len([line for line in node.client().info("keyspace")]) for node in cluster.nodes]
    assert len(held) == 5


def test_any_node_can_be_asked_for_any_key(cluster):
    """Every value of every counter is returned exactly once, whoever is asked."""
    keys = [f"any:{number}" for number in range(64)]
    returned = {key: [] for key in keys}

    def body(number):
        order = keys * 5
        random.Random(number).shuffle(order)
        with RawConnection(cluster.nodes[number % 5].port) as connection:
            for start in range(0, len(order), 40):
                some = order[start:start + 40]
                connection.send(b"".join(encode("INCR", key) for key in some))
                for key, value in zip(some, integers(connection, len(some)), strict=True):
                    returned[key].append(value)

    run_all([lambda number=number: body(number) for number in range(10)])
    for key, values in returned.items():
        assert sorted(values) == list(range(1, 51)), key
    for node in cluster.nodes:
        wait_until(lambda node=node: node.client().mget(keys) == [b"50"] * 64, "replicas to follow")


def serves(node, tag):
    """Whether a node has the keys of a tag."""
    slot = node.client().execute_command("CLUSTER", "KEYSLOT", tag)
    return any(
        begin <= slot <= end and node.port in [server[1] for server in servers]
        for begin, end, *servers in node.client().execute_command("CLUSTER", "SLOTS"))


def test_more_than_the_logs_take_waits_its_turn(cluster):
    """Connections that ask for more than may be on its way to another node are all served.

    Those that ask for little are, too, although their event loop has nothing of its own under way.
    """
    name = "{one log}" + "n" * 400
    node = next(node for node in cluster.nodes if not serves(node, "one log"))
    floods = [RawConnection(node.port, timeout=60) for _ in range(64)]
    # They are spread evenly over the event loops.
    little, much = floods[::2], floods[1::2]
    ended = threading.Event()

    def flood(number, connection):
        keys = [f"{name}:{number}:{key}" for key in range(3000)]
        for value in (1, 2):
            connection.send(b"".join(encode("INCR", key) for key in keys))
            assert integers(connection, len(keys)) == [value] * len(keys)
        for start in range(0, len(keys), 500):
            connection.call("DEL", *keys[start:start + 500])

    def trickle(number, connection):
        count = 0
        while not ended.is_set():
            count += 1
            assert connection.call("INCR", f"{{one log}}trickle:{number}") == b":%d\r\n" % count

    def floods_end():
        try:
            run_all([lambda each=each: flood(*each) for each in enumerate(much)])
        finally:
            ended.set()

    run_all([floods_end] + [lambda each=each: trickle(*each) for each in enumerate(little[:2])])
    for connection in floods:
        connection.close()


def test_a_connection_reads_what_it_has_written(cluster):
    for node in cluster.nodes:
        with RawConnection(node.port) as connection:
            connection.send(b"".join(
                encode("INCR", f"own:{node.port}:{number % 16}")
                + encode("GET", f"own:{node.port}:{number % 16}") for number in range(160)))
            for number in range(160):
                value = number // 16 + 1
                assert connection.read_reply() == b":%d\r\n" % value
                assert connection.read_reply() == b"$%d\r\n%d\r\n" % (len(str(value)), value)


def test_commands_on_many_keys_find_all_of_them(cluster):
    client = cluster.nodes[2].client(decode_responses=True)
    keys = [f"many:{number}" for number in range(200)]
    assert client.mset({key: number for number, key in enumerate(keys)})
    assert client.mget(keys) == [str(number) for number in range(200)]
    assert client.exists(*keys) == 200
    other = cluster.nodes[4].client(decode_responses=True)
    wait_until(lambda: other.mget(keys) == client.mget(keys), "the other node")
    assert other.delete(*keys[:100], "nobody") == 100
    wait_until(lambda: client.exists(*keys) == 100, "the deletion")


def test_transactions_tokens_bounds_and_deadlines_travel(cluster):
    for number, node in enumerate(cluster.nodes):
        client = node.client(decode_responses=True)
        transaction = client.pipeline(transaction=True)
        transaction.incr("{t}a").incr("{t}b").get("{t}a")
        assert transaction.execute() == [number + 1, number + 1, str(number + 1)]
        token = uuid7()
        first = client.execute_command("ONCE", token, "INCRBY", f"once:{number}", 7)
        again = cluster.nodes[(number + 1) % 5].client().execute_command(
            "ONCE", token, "INCRBY", f"once:{number}", 7)
        assert first == again == 7
        assert client.execute_command(
            "INCREX", "bounded", "BYINT", 4, "UBOUND", 10, "SATURATE")[0] == min(10, 4 * number + 4)
        assert client.set(f"short:{number}", 5, px=200)
        assert client.incr(f"short:{number}") == 6
        assert 0 < client.pttl(f"short:{number}") <= 200
        wait_until(lambda c=client, n=number: c.exists(f"short:{n}") == 0, "the deadline")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.set(f"set:{number}", "x")


def test_records_travel(cluster):
    client = cluster.nodes[0].client(decode_responses=True)
    for line in ("ADD COUNTER weibo", "ADD COLUMN weibo weibo_id hint=64 max=64 default=0 primarykey",
                 "ADD COLUMN weibo comment_num hint=16 max=32 default=0 suffix=cntcm",
                 "ADD COLUMN weibo repost_num hint=16 max=32 default=0 suffix=cntrn"):
        assert client.execute_command(*line.split()) == "OK"
    for node in cluster.nodes:
        wait_until(lambda node=node: knows(node), "the family to be known")
    ids = [1000 * number for number in range(40)]
    for number, node in enumerate(cluster.nodes):
        client = node.client(decode_responses=True)
        for weibo in ids:
            assert client.hincrby(f"weibo:{weibo}", "comment_num", 1) == number + 1
            assert client.execute_command("INCR", "weibo", f"{weibo}.cntrn") == number + 1
        with pytest.raises(redis.ResponseError, match="range"):
            client.hincrby(f"weibo:{ids[7]}", "repost_num", -100)
    for node in cluster.nodes:
        client = node.client(decode_responses=True)
        wait_until(
            lambda c=client: all(
                c.hgetall(f"weibo:{weibo}") == {"comment_num": "5", "repost_num": "5"}
                for weibo in ids), "the records")
        assert client.execute_command("GET", "weibo", *ids[:3]) == [[5, 5]] * 3


def knows(node):
    try:
        return node.client(decode_responses=True).hget("weibo:1", "comment_num") == "0"
    except redis.ResponseError:
        return False


def test_cluster_clients_are_sent_where_the_key_is(cluster):
    client = RedisCluster(host="127.0.0.1", port=cluster.nodes[3].port, decode_responses=True)
    assert {node.port for node in client.get_primaries()} == {node.port for node in cluster.nodes}
    for number in range(300):
        assert client.incr(f"routed:{number}") == 1
    assert client.mget_nonatomic([f"routed:{number}" for number in range(300)]) == ["1"] * 300
    pipeline = client.pipeline()
    for number in range(100):
        pipeline.incr(f"routed:{number}")
    assert pipeline.execute() == [2] * 100
    assert client.cluster_keyslot("routed:1") == redis.crc.key_slot(b"routed:1")
    client.close()


def test_who_asks_for_the_map_is_sent_elsewhere_and_others_are_served(cluster):
    slot = redis.crc.key_slot(b"elsewhere")
    view = cluster._slot_list(cluster.nodes[0])
    owner = next(port for begin, end, port in view if begin <= slot <= end)
    sent = set()
    for node in cluster.nodes:
        with RawConnection(node.port) as connection:
            connection.send(encode("CLUSTER", "MYID") + encode("INCR", "elsewhere"))
            connection.read_reply()
            reply = connection.read_reply()
        if reply.startswith(b"-MOVED"):
            assert reply == b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, owner)
            sent.add(node.port)
        with RawConnection(node.port) as connection:
            connection.send(encode("INCR", "elsewhere"))
            assert connection.read_reply().startswith(b":")
    assert len(sent) == 3, "two nodes of five have the key"


def test_http_finds_the_way_too(cluster):
    keys = [f"http:{number}" for number in range(24)]
    for number, node in enumerate(cluster.nodes):
        for key in keys:
            said = http(node, "POST", f"/v1/counters/{key.replace(':', '%3A')}/increment", {})
            assert said["value"] == number + 1, said
        token = uuid7()
        again = [
            http(cluster.nodes[(number + more) % 5], "POST", "/v1/counters/http%3Aonce/increment",
                 {"delta": 5}, {"Idempotency-Key": token}) for more in range(3)]
        assert [each["value"] for each in again] == [5 * number + 5] * 3
    client = cluster.nodes[0].client()
    wait_until(lambda: client.mget(keys) == [b"5"] * 24, "all increments")
    with urllib.request.urlopen(
            f"http://127.0.0.1:{cluster.nodes[1].http_port}/health/ready", timeout=30) as reply:
        assert reply.status == 200


def http(node, method, path, body=None, headers=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.http_port}{path}", method=method,
        data=None if body is None else json.dumps(body).encode(), headers=headers or {})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read())


def test_redis_cli_finds_a_healthy_cluster(cluster):
    cli = tool("redis-cli")
    checked = subprocess.run(
        [cli, "--cluster", "check", f"127.0.0.1:{cluster.nodes[1].port}"],
        capture_output=True, text=True, timeout=60)
    assert "[OK] All nodes agree about slots configuration." in checked.stdout, checked.stdout
    assert "[OK] All 16384 slots covered." in checked.stdout
    for number in range(20):
        said = subprocess.run(
            [cli, "-c", "-p", str(cluster.nodes[number % 5].port), "INCR", f"cli:{number}"],
            capture_output=True, text=True, timeout=60)
        assert said.stdout.strip().splitlines()[-1] == "1"


def test_the_benchmark_of_redis_spreads_over_the_cluster(cluster):
    ran = subprocess.run(
        [tool("redis-benchmark"), "--cluster", "-p", str(cluster.nodes[0].port), "-n", "20000",
         "-c", "20", "-P", "8", "-r", "1000", "-q", "-t", "incr,get"],
        capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and "INCR:" in ran.stdout and "GET:" in ran.stdout, ran.stdout
    assert "5 master nodes" in ran.stdout or "Cluster has 5 master nodes" in ran.stdout, ran.stdout


def test_nodes_tell_one_another_apart(cluster):
    names = {node.client().execute_command("CLUSTER", "MYID") for node in cluster.nodes}
    assert len(names) == 5
    text = cluster.nodes[0].client().execute_command("CLUSTER", "NODES")
    lines = text if isinstance(text, dict) else text.decode().splitlines()
    assert len(lines) == 5
    shards = cluster.nodes[0].client().execute_command("CLUSTER", "SHARDS")
    assert len(shards) == 5
    info = cluster.nodes[0].client().execute_command("CLUSTER", "INFO")
    assert info["cluster_state"] == "ok" if isinstance(info, dict) else b"cluster_state:ok" in info
    assert cluster.nodes[0].client().info("cluster")["cluster_enabled"] == 1


def test_a_node_that_is_killed_is_left_out(cluster):
    victim = cluster.nodes[2]
    client = RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port, decode_responses=True)
    for number in range(100):
        client.incr(f"survivor:{number}")
    victim.kill()
    began = time.monotonic()
    others = [node for node in cluster.nodes if node is not victim]
    wait_until(
        lambda: all(
            victim.port not in {port for _, _, port in cluster._slot_list(node)}
            for node in others), "the map without it", 10)
    took = time.monotonic() - began
    for number in range(100):
        assert client.incr(f"survivor:{number}") == 2
    assert took < 5, took
    client.close()


def test_positions_are_read_by_others(cluster):
    """What one connection was told, another can demand to see, through whichever node; or the latest there is."""
    clients = [node.client(decode_responses=True) for node in cluster.nodes]
    for number in range(60):
        key = f"position:{number % 7}"
        value, flat = clients[number % 5].execute_command("WITHPOSITION", "INCR", key)
        position = flat[1] if isinstance(flat, list) else next(iter(flat.values()))
        for other in range(5):
            client = clients[other]
            assert int(client.execute_command("ATLEAST", position, "GET", key)) >= value
            assert int(client.execute_command("ATLEAST", "latest", "GET", key)) >= value
    many = [f"position:{number}" for number in range(7)]
    values = clients[2].execute_command("ATLEAST", "latest", "MGET", *many)
    assert sum(map(int, values)) == 60
    with pytest.raises(redis.ResponseError, match="of several"):
        clients[0].execute_command("ATLEAST", "1-1", "MGET", *many)
    with pytest.raises(redis.ResponseError, match="POSITIONLOST"):
        clients[0].execute_command("ATLEAST", "7-1", "GET", "position:1")
    with pytest.raises(redis.ResponseError, match="not been reached"):
        for client in clients:
            client.execute_command("ATLEAST", "1-99999999", "GET", "position:1")


def test_nodes_tell_how_they_keep_up(cluster):
    """Metrics of logs and messages, and what INFO sums up."""
    def metrics(node):
        with urllib.request.urlopen(f"http://127.0.0.1:{node.http_port}/metrics") as answer:
            text = answer.read().decode()
        return {(sample.name, sample.labels.get("log")): sample.value
                for family in text_string_to_metric_families(text) for sample in family.samples
                if sample.name.startswith(("tally_log", "tally_cluster"))}

    for number in range(200):
        cluster.nodes[number % 5].client().incr(f"told:{number}")
    told = [metrics(node) for node in cluster.nodes]
    for log in map(str, range(8)):
        holders = [each for each in told if each["tally_log_held", log]]
        assert len(holders) == 2 and all(each["tally_log_serving", log] for each in holders)
        assert sum(each["tally_log_primary", log] for each in told) == 1
        assert all(each["tally_log_sequence", log] > 0 for each in holders)
        assert sum(each["tally_log_messages_total", log] for each in told) > 0
        assert sum(each["tally_log_message_bytes_total", log] for each in told) > 64
    for node, each in zip(cluster.nodes, told, strict=True):
        assert each["tally_cluster_nodes", None] == 5
        assert each["tally_cluster_silence_milliseconds", None] < 5_000
        info = node.client().info("cluster")
        assert info["cluster_enabled"] == 1 and info["cluster_logs"] == 8
        assert info["cluster_logs_served"] == sum(
            each["tally_log_serving", str(log)] for log in range(8))
        assert info["cluster_silence_milliseconds"] < 5_000
        wait_until(lambda node=node: node.client().info("cluster")["cluster_lag_messages"] <= 2, "lag")


def test_replicas_are_compared_while_everything_goes_on(cluster):
    """Every log's replicas hold the same right behind one message, as their checkpoints on disk have it."""
    client = cluster.nodes[0].client()
    for line in ("ADD COUNTER checked", "ADD COLUMN checked id hint=64 max=64 default=0 primarykey",
                 "ADD COLUMN checked likes hint=16 max=32 default=0 suffix=l"):
        client.execute_command(*line.split())
    client.mset({f"verified:before:{number}": number for number in range(1000)})
    ended = threading.Event()

    def load(number):
        own = cluster.nodes[number].client()
        for step in itertools.count():
            if ended.is_set():
                return
            pipeline = own.pipeline(transaction=False)
            pipeline.incr(f"verified:{step % 1000}")
            pipeline.set(f"verified:deadline:{step % 50}", 1, ex=1000)
            pipeline.execute_command("INCR", "checked", f"{step % 300}.l")
            pipeline.execute_command("ONCE", uuid7(), "INCR", f"verified:once:{step % 10}")
            pipeline.execute()

    def compare():
        try:
            return cluster.verify()
        finally:
            ended.set()

    verdicts = []
    run_all([lambda: verdicts.extend(compare())]
            + [lambda number=number: load(number) for number in range(3)])
    assert [verdict["log"] for verdict in verdicts] == list(range(8))
    for verdict in verdicts:
        assert len(verdict["holdings"]) == 2 and verdict["sequence"] > 0
        assert len({holding["sum"] for holding in verdict["holdings"]}) == 1
    assert sum(verdict["holdings"][0]["records"] for verdict in verdicts) > 1000


def test_one_log_can_be_compared(cluster):
    def verify(log):
        return run_tally("cluster", "verify", "--nats", cluster.addresses, "--log", log)

    refused = verify(8)
    assert refused.returncode == 64 and "logs 0 to 7" in refused.stderr
    compared = verify(3)
    assert compared.returncode == 0 and "the same" in compared.stdout, compared
    assert len(compared.stdout.splitlines()) == 2


def test_what_is_too_long_for_a_message_is_refused_by_every_node(cluster):
    """However well it could be packed, and whether the node has the log or asks another."""
    keys = {f"{{one}}{number:04d}" + "k" * 3900: 1 for number in range(300)}
    for node in cluster.nodes:
        if node.is_running:
            with pytest.raises(redis.ResponseError, match="fewer keys at a time"):
                node.client().mset(keys)
            assert node.client().ping()
