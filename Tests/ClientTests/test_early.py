"""Additions that may be answered before they are in a cluster's log."""

import signal
import threading
import time

import pytest
import redis

from load import integers, run_all
from protocol import RawConnection, encode
from servers import ClusterUnderTest, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = ClusterUnderTest(
        tmp_path_factory.mktemp("early"),
        flags=("--threads", "2", "--plain-ack", "memory", "--memory-ack-milliseconds", "500"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(autouse=True)
def everything_runs(cluster):
    cluster.heal()
    yield
    cluster.wait_until_equal()


def early_answers(cluster):
    """How many additions were answered early, and how many of them lost."""
    infos = [node.client().info("cluster") for node in cluster.nodes]
    return (sum(info["cluster_early_answers"] for info in infos),
            sum(info["cluster_early_lost"] for info in infos))


def declare(cluster, family, column):
    """Makes a family of one column whose additions are answered early."""
    client = cluster.nodes[0].client()
    for words in (f"ADD COUNTER {family}", f"ADD COLUMN {family} id primarykey",
                  f"ADD COLUMN {family} {column}", f"ALTER COUNTER {family} ack=memory"):
        client.execute_command(*words.split())
    time.sleep(1)


def test_a_key_that_one_connection_adds_to_is_answered_as_if_it_were_alone(cluster):
    """Nothing is counted twice while a message is applied, and nothing is missing between messages."""
    before = early_answers(cluster)[0]
    returned = []
    with RawConnection(cluster.nodes[0].port) as connection:
        for depth in [1] * 300 + [7] * 300 + [90] * 50:
            connection.send(encode("INCR", "alone") * depth)
            returned += integers(connection, depth)
    assert returned == list(range(1, len(returned) + 1))
    cluster.wait_until_equal()
    assert int(cluster.nodes[2].client().get("alone")) == len(returned)
    count, lost = early_answers(cluster)
    assert count - before > len(returned) / 2 and lost == 0


def test_what_many_add_is_counted_once(cluster):
    """No answer is above the truth, each node's own go up, and the sum is exact."""
    returned = [[] for _ in range(9)]

    def body(number):
        with RawConnection(cluster.nodes[number % 3].port) as connection:
            for depth in (1, 2, 30, 100) * 10:
                connection.send(encode("INCRBY", "many", "3") * depth)
                returned[number] += integers(connection, depth)

    run_all([lambda number=number: body(number) for number in range(len(returned))])
    total = 3 * sum(map(len, returned))
    for values in returned:
        assert values == sorted(values) and values[-1] <= total
    cluster.wait_until_equal()
    assert [int(node.client().get("many")) for node in cluster.nodes] == [total] * 3


def test_a_connection_reads_what_it_was_answered(cluster):
    client = cluster.nodes[1].client()
    for number in range(1, 200):
        value = client.incr("own")
        if number % 3 == 0:
            assert int(client.get("own")) == value
        elif number % 3 == 1:
            assert client.mget("own", "other") == [str(value).encode(), None]
        else:
            assert client.exists("own") == 1
    assert client.getdel("own") == b"199"


def test_a_position_tells_what_is_not_in_the_log_yet(cluster):
    client = cluster.nodes[0].client(protocol=3)
    value, positions = client.execute_command("WITHPOSITION", "INCR", "told")
    assert value == 1 and list(positions.values()) == [None]
    value, positions = client.execute_command("ATLEAST", "latest", "WITHPOSITION", "INCR", "told")
    assert value == 2 and list(positions.values()) != [None]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.incr("told")
        assert pipeline.execute() == [3]
    # One that could be refused is answered when that is known.
    client.set("told", 2**63 - 2)
    assert client.incr("told") == 2**63 - 1
    with pytest.raises(redis.ResponseError, match="overflow"):
        client.incr("told")


def test_what_else_changes_a_key_is_not_passed_over(cluster):
    """Where something but an addition is on its way, an addition is answered when it has been applied."""
    with RawConnection(cluster.nodes[0].port) as connection:
        for number in range(100):
            key = f"mixed:{number}"
            connection.send(
                encode("INCR", key) + encode("SET", key, "50") + encode("INCR", key)
                + encode("DEL", key) + encode("INCRBY", key, "7") + encode("MULTI")
                + encode("INCR", key) + encode("EXEC") + encode("INCR", key))
            replies = [connection.read_reply() for _ in range(8)]
            assert replies[:5] == [b":1\r\n", b"+OK\r\n", b":51\r\n", b":1\r\n", b":7\r\n"]
            assert replies[-2:] == [b"*1\r\n:8\r\n", b":9\r\n"] or b":9" in connection.read_reply()


def test_keys_of_one_hash_are_told_apart(cluster):
    declare(cluster, "far", "n bound=saturate")
    with RawConnection(cluster.nodes[0].port) as connection:
        for times in range(1, 20):
            connection.send(b"".join(
                encode("HINCRBY", f"far:{1 + 4096 * place}", "n", "1") for place in range(64)))
            assert integers(connection, 64) == [times] * 64


def test_bounds_and_early_answers(cluster):
    declare(cluster, "cut", "n bound=saturate max=4")
    with RawConnection(cluster.nodes[0].port) as connection:
        for key in range(50):
            steps = [3, 20, -1, -20, 5]
            connection.send(b"".join(
                encode("HINCRBY", f"cut:{key}", "n", str(step)) for step in steps))
            assert integers(connection, 5) == [3, 15, 14, 0, 5]


def test_columns_are_answered_as_their_family_says(cluster):
    client = cluster.nodes[0].client(protocol=3)
    for words in (
            "ADD COUNTER likes", "ADD COLUMN likes id primarykey",
            "ADD COLUMN likes up bound=saturate max=4", "ADD COLUMN likes strict"):
        assert client.execute_command(*words.split()) in (b"OK", "OK", True)
    def is_early(column):
        _, positions = client.execute_command(
            "WITHPOSITION", "HINCRBY", "likes:7", column, "0")
        return list(positions.values()) == [None]
    assert not is_early("up")
    client.execute_command("ALTER", "COUNTER", "likes", "ack=memory")
    assert b"ALTER COUNTER likes ack=memory" in client.execute_command("DESCRIBE", "likes")
    wait_until(lambda: is_early("up"), "the family to be answered early")
    assert not is_early("strict")
    assert client.hincrby("likes:7", "up", 9) == 9
    # What a bound cuts off is told when it is known.
    assert client.hincrby("likes:7", "up", 9) == 15
    client.execute_command("ALTER", "COUNTER", "likes", "ack=applied")
    wait_until(lambda: not is_early("up"), "the family to be answered late")


def test_answers_stop_while_the_log_is_away_and_nothing_is_lost(cluster):
    """All brokers stand still for some seconds: what was answered is counted when they go on."""
    returned = []
    stop = threading.Event()

    def body():
        with RawConnection(cluster.nodes[0].port) as connection:
            while not stop.is_set():
                connection.send(encode("INCR", "paused"))
                returned.append((time.monotonic(), *integers(connection, 1)))

    thread = threading.Thread(target=body)
    thread.start()
    time.sleep(0.5)
    for broker in cluster.brokers:
        broker.send_signal(signal.SIGSTOP)
    paused = time.monotonic()
    time.sleep(4)
    resumed = time.monotonic()
    for broker in cluster.brokers:
        broker.send_signal(signal.SIGCONT)
    wait_until(lambda: returned[-1][0] > resumed + 0.1, "answers to come again", 60)
    stop.set()
    thread.join()
    meanwhile = [when - paused for when, _ in returned if paused < when < resumed - 0.05]
    assert meanwhile and max(meanwhile) < 3
    cluster.wait_until_equal()
    assert [value for _, value in returned] == list(range(1, len(returned) + 1))
    assert int(cluster.nodes[1].client().get("paused")) == len(returned)


def test_a_node_that_is_stopped_leaves_nothing_behind(cluster):
    """A stop waits for what was answered; the sum is exact afterwards."""
    answered = 0
    node = cluster.nodes[1]
    with RawConnection(node.port) as connection:
        for _ in range(50):
            connection.send(encode("INCR", "stopped") * 20)
            answered += len(integers(connection, 20))
        node.stop()
    cluster.heal()
    cluster.wait_until_equal()
    assert int(cluster.nodes[0].client().get("stopped")) == answered
