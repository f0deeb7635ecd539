"""Logs whose streams are lost, and whole clusters, go on from what nodes or backups have."""

import json
import shutil
import socket

import pytest
import redis

from servers import ClusterUnderTest, TallyServer, run_tally, wait_until


FLAGS = ("--checkpoint-seconds", "2", "--threads", "2")


@pytest.fixture
def unmade(tmp_path):
    """A cluster of which nothing runs yet."""
    cluster = ClusterUnderTest(tmp_path, logs=4, count=3, copies=3, flags=FLAGS)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(unmade):
    unmade.start()
    unmade.wait_until_placed()
    return unmade


def ask_broker(cluster, subject):
    """One request of JetStream's, and its answer."""
    with socket.create_connection(("127.0.0.1", cluster.brokers[0].port), timeout=20) as connection:
        connection.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n')
        connection.sendall(f"PUB {subject} answer 0\r\n\r\nPING\r\n".encode())
        said = b""
        while b"\nMSG answer" not in said or not said.endswith(b"}\r\n"):
            said += connection.recv(65536)
    return json.loads(said[said.index(b"{", said.index(b"\nMSG answer")):])


def delete_stream(cluster, log):
    said = ask_broker(cluster, f"$JS.API.STREAM.DELETE.TALLY_tally_LOG_{log}")
    assert said["success"], said


def status(cluster):
    said = run_tally("cluster", "status", "--nats", cluster.addresses, "--json")
    return json.loads(said.stdout)


def phases(cluster, log):
    """What every node that runs says of a log."""
    return [node["logs"].get(str(log), {}).get("phase") for node in status(cluster)["nodes"]]


def are_durable(cluster):
    """Whether every node has a checkpoint of every log."""
    return all(
        len(node["logs"]) == 4
        and all(log["durableSequence"] > 0 for log in node["logs"].values())
        for node in status(cluster)["nodes"])


def recover(cluster, *flags):
    return run_tally("cluster", "recover", "--nats", cluster.addresses, *flags, timeout=200)


def count(cluster, rounds, told):
    """Increments keys through all nodes, and remembers what each key is."""
    for node in cluster.nodes:
        if not node.is_running:
            continue
        pipeline = node.client().pipeline(transaction=False)
        for number in range(200):
            pipeline.incr(f"key:{number}", rounds)
        for number, value in enumerate(pipeline.execute()):
            told[f"key:{number}"] = max(value, told.get(f"key:{number}", 0))


def position_in(client, partitions):
    """A key of one of these partitions, and its position."""
    for number in range(200):
        _, positions = client.execute_command("WITHPOSITION", "GET", f"key:{number}")
        [(partition, position)] = positions.items()
        if partition in partitions:
            return f"key:{number}", position
    raise AssertionError("no key is there")


def check(cluster, told):
    """Every node comes to say what clients were told."""
    def is_told(node):
        values = node.client().mget(list(told))
        return [int(value) for value in values] == list(told.values())
    for node in cluster.nodes:
        wait_until(lambda node=node: is_told(node), "a node to say what was told", 60)


def test_a_log_whose_stream_is_gone_goes_on_from_the_nodes(cluster):
    told = {}
    client = cluster.nodes[0].client()
    assert client.execute_command("ADD COUNTER post") is not None
    count(cluster, 1, told)
    key, position = position_in(client, range(16, 32))
    delete_stream(cluster, 1)
    wait_until(lambda: phases(cluster, 1) == ["halted"] * 3, "all nodes to stop with the log", 60)
    # Who comes now must not begin it from nothing.
    joined = cluster.add_node(*FLAGS)
    said = recover(cluster)
    assert said.returncode == 0 and "gone" in said.stdout, said.stdout + said.stderr
    said = recover(cluster, "--yes")
    assert said.returncode == 0 and "log 1 goes on in epoch 2" in said.stdout, said.stdout + said.stderr
    wait_until(
        lambda: phases(cluster, 1).count("serving") >= 3 and "halted" not in phases(cluster, 1),
        "the log to be served again", 60)
    cluster.wait_until_placed()
    check(cluster, told)
    count(cluster, 3, told)
    check(cluster, told)
    cluster.verify()
    # What was told of the epoch before still holds, and what is not of it is refused.
    epoch, sequence = position.split(b"-")
    assert epoch == b"1"
    for node in cluster.nodes:
        asked = node.client()
        assert asked.execute_command("ATLEAST", position, "GET", key) is not None
        with pytest.raises(redis.ResponseError, match="Epoch 1 ended here"):
            asked.execute_command("ATLEAST", b"1-%d" % (int(sequence) + 1000), "GET", key)
    assert position_in(client, range(16, 32))[1].startswith(b"2-")
    # The new epoch is what nodes come back to.
    for node in (cluster.nodes[0], joined):
        node.kill()
        node.start().wait_until_ready()
    cluster.wait_until_placed()
    count(cluster, 1, told)
    check(cluster, told)
    assert recover(cluster).stdout.startswith("every log is served")


def test_the_node_that_has_come_furthest_is_the_one(cluster):
    told = {}
    count(cluster, 1, told)
    wait_until(lambda: are_durable(cluster), "all to have checkpoints", 60)
    away = cluster.nodes[2]
    away.kill()
    count(cluster, 5, told)
    for log in range(4):
        delete_stream(cluster, log)
    wait_until(
        lambda: all(phases(cluster, log) == ["halted"] * 2 for log in range(4)),
        "all nodes to stop", 60)
    said = recover(cluster, "--yes")
    assert said.returncode == 1 and "--accept-loss" in said.stderr, said.stdout + said.stderr
    away.start().wait_until_ready()
    wait_until(
        lambda: all(phases(cluster, log) == ["halted"] * 3 for log in range(4)),
        "the third to be there", 60)
    said = recover(cluster, "--yes")
    assert said.returncode == 0, said.stdout + said.stderr
    wait_until(
        lambda: all(phases(cluster, log) == ["serving"] * 3 for log in range(4)),
        "all to serve", 60)
    check(cluster, told)
    count(cluster, 2, told)
    check(cluster, told)
    cluster.verify()


def begin_from(cluster, directory):
    """Makes the cluster of what a directory holds, and has its nodes go on with that."""
    cluster.make("--from", directory)
    for node in cluster.nodes:
        node.start()
    for node in cluster.nodes:
        node.wait_until_ready()
    wait_until(
        lambda: len(status(cluster)["nodes"]) == len(cluster.nodes)
        and all("halted" in phases(cluster, log) for log in range(4)), "the nodes to be there", 60)
    said = recover(cluster, "--yes")
    assert said.returncode == 0 and said.stdout.count("goes on in epoch") == 4, (
        said.stdout + said.stderr)
    wait_until(
        lambda: all(phases(cluster, log) == ["serving"] * 3 for log in range(4)),
        "all to serve", 90)
    cluster.wait_until_placed()


def make_posts(client, prefix="post"):
    client.execute_command(f"ADD COUNTER {prefix}")
    client.execute_command(f"ADD COLUMN {prefix} id hint=64 max=64 default=0 primarykey")
    client.execute_command(f"ADD COLUMN {prefix} likes hint=16 max=32 default=0")


def test_a_single_nodes_data_become_a_clusters(unmade):
    cluster = unmade
    alone = TallyServer(cluster.nodes[0].directory, *FLAGS).start().wait_until_ready()
    client = alone.client()
    make_posts(client)
    for number in range(300):
        client.hincrby(f"post:{1000 + number}", "likes", number)
        client.incrby(f"key:{number}", number)
    client.set("passing", 5, ex=3600)
    assert client.execute_command("DEL", "key:299") == 1
    # What the journal holds behind the last checkpoint comes along, also after a crash.
    alone.kill()
    begin_from(cluster, cluster.nodes[0].directory)
    for node in cluster.nodes:
        client = node.client()
        assert int(client.get("key:298")) == 298 and client.get("key:299") is None
        assert 3000 < client.ttl("passing") <= 3600
        assert int(client.hget("post:1299", "likes")) == 299
        assert client.dbsize() > 0
    # The schema goes on from what it was.
    client = cluster.nodes[1].client()
    assert client.execute_command("ADD COLUMN post views hint=16 max=32 default=0") is not None
    assert client.hincrby("post:1007", "views", 3) == 3
    assert client.incrby("key:7", 1) == 8
    cluster.wait_until_equal()
    cluster.verify()
    said = run_tally("serve", "--data", cluster.nodes[0].directory, "--port", cluster.nodes[0].port)
    assert said.returncode != 0


def test_a_cluster_goes_on_after_its_brokers_have_lost_everything(cluster):
    told = {}
    make_posts(cluster.nodes[1].client())
    count(cluster, 2, told)
    assert cluster.nodes[0].client().hincrby("post:7", "likes", 9) == 9
    for node in cluster.nodes:
        assert node.stop() == 0
    for broker in cluster.brokers:
        broker.kill()
        shutil.rmtree(broker.directory / "store")
    begin_from(cluster, cluster.nodes[2].directory)
    check(cluster, told)
    count(cluster, 1, told)
    check(cluster, told)
    assert cluster.nodes[1].client().hincrby("post:7", "likes", 1) == 10
    make_posts(cluster.nodes[0].client(), "reel")
    assert cluster.nodes[2].client().hincrby("reel:7", "likes", 4) == 4
    cluster.verify()


def test_a_cluster_is_restored_from_backups(cluster, tmp_path):
    told = {}
    make_posts(cluster.nodes[1].client())
    count(cluster, 2, told)
    cluster.wait_until_equal()
    backup = tmp_path / "backup"
    said = run_tally("backup", "--port", cluster.nodes[1].port, backup)
    assert said.returncode == 0, said.stderr
    # What comes later is not in it.
    count(cluster, 1, {})
    for node in cluster.nodes:
        node.kill()
        shutil.rmtree(node.directory)
    for broker in cluster.brokers:
        broker.kill()
        shutil.rmtree(broker.directory / "store")
    said = run_tally("restore", backup, cluster.nodes[0].directory)
    assert said.returncode == 0, said.stderr
    begin_from(cluster, cluster.nodes[0].directory)
    check(cluster, told)
    count(cluster, 1, told)
    check(cluster, told)
    cluster.verify()
