"""Three nodes of a cluster on three NATS servers: every node may be asked, all say the same."""

import random
import threading
import time

import pytest
import redis

from load import integers, run_all
from protocol import RawConnection, encode
from servers import ClusterUnderTest, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = ClusterUnderTest(tmp_path_factory.mktemp("cluster"), flags=("--threads", "2"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(autouse=True)
def everything_runs(cluster):
    cluster.heal()
    yield
    cluster.wait_until_equal()


def test_every_value_is_returned_once_by_whichever_node(cluster):
    """Increments of one key through all nodes return exactly the values 1 to N."""
    returned = [[] for _ in range(12)]

    def body(number):
        node = cluster.nodes[number % 3]
        with RawConnection(node.port) as connection:
            for depth in (1, 3, 50, 400):
                for _ in range(5):
                    connection.send(encode("INCR", "shared") * depth)
                    returned[number] += integers(connection, depth)

    run_all([lambda number=number: body(number) for number in range(len(returned))])
    for values in returned:
        assert values == sorted(values), "a connection's own increments are in order"
    everything = sorted(value for values in returned for value in values)
    assert everything == list(range(1, len(everything) + 1))


def test_a_connection_reads_what_it_has_written(cluster):
    """Reads behind writes in one pipeline see them, and only those before them."""
    with RawConnection(cluster.nodes[1].port) as connection:
        steps = []
        for number in range(100):
            steps += [encode("INCR", f"own:{number % 7}"), encode("GET", f"own:{number % 7}")]
        connection.send(b"".join(steps))
        for number in range(100):
            value = number // 7 + 1
            assert connection.read_reply() == b":%d\r\n" % value
            assert connection.read_reply() == b"$%d\r\n%d\r\n" % (len(str(value)), value)


def test_commands_mean_what_they_do_on_one_node(cluster):
    first, second, third = (node.client(decode_responses=True) for node in cluster.nodes)
    assert first.set("a", 5) and first.mset({"m1": 1, "m2": 2, "m3": 3})
    wait_until(lambda: second.mget("a", "m1", "m2", "m3") == ["5", "1", "2", "3"], "the writes")
    assert second.delete("m1", "m2", "nobody") == 2
    assert third.set("a", 7, nx=True) is None and third.getset("a", 8) == "5"
    assert third.incrby("a", 10) == 18 and third.decr("a") == 17
    transaction = first.pipeline(transaction=True)
    transaction.incr("{t}a").incr("{t}b").get("{t}a")
    assert transaction.execute() == [1, 1, "1"]
    with pytest.raises(redis.ResponseError, match="same slot"):
        first.pipeline(transaction=True).incr("t1").incr("t2").incr("t3").execute()
    with pytest.raises(redis.ResponseError, match="not offered in a cluster"):
        first.execute_command("WATCH", "a")
    assert third.set("short", 1, px=300)
    assert 0 < third.pttl("short") <= 300
    wait_until(lambda: third.exists("short") == 0, "the deadline")
    assert second.incr("short") == 1


def test_families_are_the_same_everywhere(cluster):
    first, second, third = (node.client(decode_responses=True) for node in cluster.nodes)
    assert first.execute_command("ADD", "COUNTER", "post") == "OK"
    first.execute_command(
        *"ADD COLUMN post id hint=64 max=64 default=0 primarykey".split())
    first.execute_command(*"ADD COLUMN post likes hint=16 max=32 default=0 suffix=l".split())

    def is_known():
        try:
            return second.hget("post:1", "likes") == "0"
        except redis.ResponseError:
            return False

    wait_until(is_known, "the family to be known")
    assert second.hincrby("post:17", "likes", 3) == 3
    assert second.incr("post:17.l") == 4
    with pytest.raises(redis.ResponseError, match="range"):
        second.hincrby("post:17", "likes", -5)
    wait_until(lambda: third.hgetall("post:17") == {"likes": "4"}, "the record")


def declarations(node):
    """What a node says of all families."""
    client = node.client(decode_responses=True)
    return {name: client.execute_command("DESCRIBE", name)
            for name in client.execute_command("DESCRIBE")}


def test_a_retry_on_another_node_gets_the_first_reply(cluster):
    tokens = [
        f"{int(time.time() * 1000):012x}7{random.getrandbits(12):03x}"
        f"{0x8000 | random.getrandbits(14):04x}{random.getrandbits(48):012x}"
        for _ in range(200)]
    replies = {}

    def body(number):
        client = cluster.nodes[number % 3].client()
        order = tokens[:]
        random.Random(number).shuffle(order)
        for token in order:
            reply = client.execute_command("ONCE", token, "INCR", "counted-once")
            assert replies.setdefault(token, reply) == reply

    run_all([lambda number=number: body(number) for number in range(6)])
    assert sorted(replies.values()) == list(range(1, len(tokens) + 1))


class Load:
    """Increments of one key by connections that come back; remembers what they were told."""

    def __init__(self, cluster, nodes, key):
        self.told = []
        self.unknown = 0
        self.refused = 0
        self.isOver = threading.Event()
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(
                target=self.run, args=(cluster.nodes[number % 3], key), daemon=True)
            for number in nodes]
        for thread in self.threads:
            thread.start()

    def run(self, node, key):
        client = None
        while not self.isOver.is_set():
            try:
                client = client or node.client(socket_timeout=20, socket_connect_timeout=1)
                value = client.incr(key)
                with self.lock:
                    self.told.append(value)
            except redis.ResponseError as error:
                with self.lock:
                    if str(error).startswith("UNAVAILABLE"):
                        self.refused += 1
                    else:
                        assert str(error).startswith("UNKNOWN"), error
                        self.unknown += 1
            except (redis.ConnectionError, redis.TimeoutError):
                # It may have been sent.
                with self.lock:
                    self.unknown += 1
                client = None
                time.sleep(0.05)

    def finish(self):
        self.isOver.set()
        for thread in self.threads:
            thread.join(60)

    def check(self, value):
        assert len(set(self.told)) == len(self.told), "a value was told twice"
        assert max(self.told) <= value
        assert len(self.told) <= value <= len(self.told) + self.unknown


def test_a_node_that_is_killed_takes_nothing_with_it(cluster):
    """Others go on; the node comes back, and all counts are what clients were told."""
    load = Load(cluster, range(9), "killed-nodes")
    for round_number in range(3):
        victim = cluster.nodes[round_number % 3]
        time.sleep(0.7)
        victim.kill()
        before = len(load.told)
        time.sleep(0.7)
        assert len(load.told) > before, "the other nodes have stopped"
        victim.start().wait_until_ready()
    time.sleep(0.5)
    load.finish()
    cluster.wait_until_equal()
    load.check(int(cluster.nodes[0].client().get("killed-nodes")))


def test_a_broker_that_is_killed_takes_nothing_with_it(cluster):
    load = Load(cluster, range(6), "killed-brokers")
    for broker in cluster.brokers:
        time.sleep(0.5)
        broker.kill()
        before = len(load.told)
        wait_until(lambda: len(load.told) > before + 10, "writes to go on", 40)
        broker.start().wait_until_ready()
        cluster.wait_until_brokers_agree()
    load.finish()
    cluster.wait_until_equal()
    load.check(int(cluster.nodes[0].client().get("killed-brokers")))


def test_a_node_that_starts_before_the_brokers_waits_for_them(cluster):
    node = cluster.nodes[0]
    node.kill()
    for broker in cluster.brokers:
        broker.kill()
    node.start()
    def complaints():
        return node.log().count("waiting for the NATS servers")
    before = complaints()
    wait_until(lambda: complaints() > before + 1, "the node to wait")
    # One of three cannot say anything for the others.
    cluster.brokers[0].start().wait_until_ready()
    waited = complaints()
    wait_until(lambda: complaints() > waited, "the node to go on waiting")
    assert node.is_running
    cluster.heal()


def test_without_brokers_reads_go_on_and_writes_say_so(cluster):
    client = cluster.nodes[0].client(socket_timeout=40)
    client.set("kept", 5)
    for broker in cluster.brokers:
        broker.kill()
    assert client.get("kept") == b"5"
    started = time.monotonic()
    with pytest.raises(redis.ResponseError, match="UNAVAILABLE|UNKNOWN"):
        client.incr("kept")
    assert time.monotonic() - started < 30
    assert client.get("kept") in (b"5", b"6")
    # Reads may be as old as that.
    assert client.info("cluster")["cluster_silence_milliseconds"] >= 5_000
    for broker in cluster.brokers:
        broker.start()
    cluster.wait_until_brokers_agree()
    assert wait_until(lambda: try_increment(client), "writes to be taken again", 60) in (6, 7)


def try_increment(client):
    try:
        return client.incr("kept")
    except redis.ResponseError:
        return None


def test_families_are_declared_in_one_order_whoever_declares_them(cluster):
    """Nodes declare families at once, some the same; all nodes have the same in the end, and count in them."""
    names = [f"fam{number}" for number in range(12)]
    made = []

    def body(number):
        client = cluster.nodes[number % 3].client(decode_responses=True)
        for name in random.Random(number).sample(names, 8):
            try:
                client.execute_command("ADD", "COUNTER", name)
            except redis.ResponseError as error:
                assert "exists" in str(error), error
                continue
            made.append(name)
            client.execute_command("ADD", "COLUMN", name, "id", "primarykey")
            client.execute_command("ADD", "COLUMN", name, f"c{number}", "suffix=s")
            for key in range(20):
                assert client.execute_command("INCR", f"{name}:{key * 1000}.s") == 1

    run_all([lambda number=number: body(number) for number in range(6)])
    assert len(set(made)) == len(made) >= 8

    wait_until(
        lambda: all(declarations(node) == declarations(cluster.nodes[0]) for node in cluster.nodes)
        and set(made) <= set(declarations(cluster.nodes[0])), "one schema")
    for node in cluster.nodes:
        client = node.client(decode_responses=True)
        for name in made:
            wait_until(
                lambda c=client, n=name: all(
                    c.execute_command("GET", f"{n}:{key * 1000}.s") == "1" for key in range(20)),
                "the records")
    cluster.nodes[1].kill()
    cluster.nodes[1].start().wait_until_ready()
    wait_until(
        lambda: declarations(cluster.nodes[1]) == declarations(cluster.nodes[0]),
        "the schema after a restart")


def test_a_family_is_not_made_over_plain_keys(cluster):
    first, second = cluster.nodes[0].client(), cluster.nodes[1].client()
    first.incr("way:17")
    with pytest.raises(redis.ResponseError, match="plain keys"):
        second.execute_command("ADD", "COUNTER", "way")
    assert b"way" not in second.execute_command("DESCRIBE")
    assert first.incr("way:17") == 2 and first.incr("way:18") == 1
    first.delete("way:17", "way:18")
    wait_until(lambda: second.exists("way:17", "way:18") == 0, "the deletion")
    assert second.execute_command("ADD", "COUNTER", "way") == b"OK"
    second.execute_command("ADD", "COLUMN", "way", "id", "primarykey")
    second.execute_command("ADD", "COLUMN", "way", "n")
    wait_until(
        lambda: declarations(cluster.nodes[0]) == declarations(cluster.nodes[1]),
        "the family with its columns")
    assert first.incr("way:17") == 1
    with pytest.raises(redis.ResponseError, match="no such counter"):
        first.execute_command("DROP", "COUNTER", "nobody")
    assert first.execute_command("DROP", "COUNTER", "way") == b"OK"
    assert cluster.nodes[0].log().count("DROP COUNTER way") == 1
    wait_until(lambda: b"way" not in second.execute_command("DESCRIBE"), "the end of it")
    assert second.incr("way:17") == 1
