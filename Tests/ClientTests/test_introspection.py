"""SLOWLOG, LATENCY, MONITOR, CLIENT PAUSE, INFO and the commands that are not offered."""

import re
import threading
import time

import pytest
import redis

from protocol import Closed, RawConnection, encode
from servers import wait_until


def test_slow_commands_are_noted(tally):
    client = tally.client()
    assert client.config_get("slowlog-*") == {
        "slowlog-log-slower-than": "10000", "slowlog-max-len": "128"}
    client.config_set("slowlog-log-slower-than", 0)
    client.slowlog_reset()
    client.client_setname("me")
    client.incr("k")
    client.mget([f"key {number}" for number in range(100)])
    client.echo("x" * 200)
    entries = client.slowlog_get(128)
    assert client.slowlog_len() == len(entries) + 1
    by_name = {bytes(each["command"]).split(b" ")[0].lower(): each for each in entries}
    assert {b"incrby", b"mget", b"echo", b"client"} <= set(by_name)
    # Of the others their keys are kept.
    assert by_name[b"incrby"]["command"] == b"INCRBY k" and by_name[b"incrby"]["client_name"] == b"me"
    assert by_name[b"mget"]["command"].endswith(b"key 29 ... (70 more arguments)")
    assert by_name[b"echo"]["command"].endswith(b"x... (72 more bytes)")
    assert by_name[b"echo"]["client_name"] == b"me"
    assert re.match(rb"127\.0\.0\.1:\d+", by_name[b"echo"]["client_address"])
    assert all(each["duration"] >= 0 and each["start_time"] > 1.7e9 for each in entries)
    identities = [each["id"] for each in entries]
    assert identities == sorted(identities, reverse=True)
    assert len(client.slowlog_get(3)) == 3
    client.config_set("slowlog-max-len", 2)
    client.incr("k")
    assert client.slowlog_len() == 2
    client.config_set("slowlog-log-slower-than", -1)
    client.slowlog_reset()
    client.incr("k")
    assert client.slowlog_len() == 0
    with pytest.raises(redis.ResponseError, match="greater than or equal to -1"):
        client.execute_command("SLOWLOG", "GET", -2)


def test_latency_events(tally):
    client = tally.client()
    assert b"not being monitored" in client.execute_command("LATENCY", "DOCTOR")
    assert client.latency_latest() == []
    client.config_set("latency-monitor-threshold", 1)
    with client.pipeline(transaction=False) as pipeline:
        pipeline.mset({f"key {number}": number for number in range(200_000)})
        pipeline.mget([f"key {number}" for number in range(200_000)])
        pipeline.execute()
    names = {each[0] for each in client.latency_latest()}
    assert b"command" in names
    history = client.latency_history("command")
    assert history and all(milliseconds >= 1 for _, milliseconds in history)
    assert b"command: " in client.execute_command("LATENCY", "DOCTOR")
    assert client.latency_reset() >= 1
    assert client.latency_history("command") == []
    assert client.latency_history("nothing") == []


def test_monitor_shows_commands(tally):
    with tally.client().monitor() as monitor, RawConnection(tally.port) as connection:
        connection.call("INCR", "k")
        connection.call("SET", 'a "b"\\\r\n\t\x01', 7)
        connection.call("CONFIG", "GET", "port")
        connection.call("AUTH", "default", "secret")
        connection.call("HELLO", 3, "AUTH", "default", "secret")
        connection.call("MULTI")
        connection.call("INCR", "k")
        connection.call("EXEC")
        connection.call("PING")
        shown = []
        while not shown or shown[-1]["command"] != "PING":
            shown.append(monitor.next_command())
    assert [each["command"] for each in shown] == [
        "INCR k", 'SET a "b"\\\\\\r\\n\\t\\x01 7', "MULTI", "INCR k", "EXEC", "PING"]
    assert all(each["client_address"] == "127.0.0.1" and each["db"] == 0 for each in shown)


def test_a_monitor_that_does_not_read_is_closed(tally):
    client = tally.client()
    with RawConnection(tally.port, receive_buffer_bytes=4096) as monitor:
        assert monitor.call("MONITOR") == b"+OK\r\n"
        big = "x" * 500_000
        for _ in range(200):
            client.echo(big)
        wait_until(lambda: len(client.client_list()) == 1, "the monitor to be closed")
    assert tally.resident_bytes() < 400 << 20


def test_pause(tally):
    client, other = tally.client(), tally.client()
    other.ping()
    client.client_pause(600, all=False)
    begun = time.monotonic()
    assert other.get("k") is None
    assert time.monotonic() - begun < 0.5
    assert other.incr("k") == 1
    assert time.monotonic() - begun > 0.5
    client.client_pause(60_000)
    client.client_pause(10)
    thread = threading.Thread(target=other.get, args=("k",), daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    client.client_unpause()
    thread.join(10)
    assert not thread.is_alive()


def test_counts_of_commands_and_errors(tally):
    client = tally.client()
    for _ in range(7):
        client.incr("k")
    with client.pipeline() as pipeline:
        pipeline.incr("k").get("k").execute()
    for command in (["SET", "k", "x"], ["NONSENSE"]):
        with pytest.raises(redis.ResponseError):
            client.execute_command(*command)
    told = client.info("commandstats")
    assert told["cmdstat_incrby"]["calls"] == 8 and told["cmdstat_get"]["calls"] == 1
    assert told["cmdstat_exec"]["calls"] == 1
    assert told["cmdstat_incrby"]["usec"] >= 0 and "usec_per_call" in told["cmdstat_incrby"]
    assert client.info("errorstats")["errorstat_ERR"]["count"] == 2
    assert "cmdstat_incrby" not in client.info() and "cmdstat_incrby" in client.info("all")
    client.config_resetstat()
    assert "cmdstat_incrby" not in client.info("commandstats")
    assert not client.info("errorstats")


def test_what_administrators_ask_for(tally):
    client = tally.client()
    assert client.role() == [b"master", 0, []]
    assert client.memory_stats()["keys.count"] == 0
    assert client.execute_command("MEMORY", "DOCTOR") == b"Nothing to worry about.\n"
    assert client.memory_purge()
    assert client.client_trackinginfo() == ["flags", [b"off"], "redirect", -1, "prefixes", []]
    assert client.client_getredir() == -1
    assert client.client_unblock(1) == 0
    with pytest.raises(redis.ResponseError, match="TRACKING is not offered"):
        client.execute_command("CLIENT", "TRACKING", "ON")
    assert client.execute_command("CLIENT", "TRACKING", "OFF") == b"OK"
    assert b"Tally" in client.execute_command("LOLWUT")
    assert abs(client.lastsave().timestamp() - time.time()) < 60
    assert client.client_kill_filter(maxage=1000) == 0


@pytest.mark.parametrize("command, reason", [
    ("LPUSH", "there are no lists"), ("zadd", "there are no sorted sets"), ("EVAL", "there are no scripts"),
    ("SUBSCRIBE", "there is no publishing"), ("INCRBYFLOAT", "not floats"), ("HEXPIRE", "no deadlines"),
    ("DUMP", "Redis's format"), ("SAVE", "BGSAVE"), ("DEBUG", "nothing to debug"), ("APPEND", "not texts")])
def test_what_is_not_there_says_why(shared_tally, command, reason):
    with RawConnection(shared_tally.port) as connection:
        reply = connection.call(command, "x", "y").decode()
        assert reply.startswith(f"-ERR unknown command '{command}': ") and reason in reply


def hot_keys(client, *arguments):
    """What HOTKEYS GET tells: for each key its operations a second, and its share in percent."""
    reply = client.execute_command("HOTKEYS", "GET", *arguments)
    fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    fields = {name if isinstance(name, bytes) else name.encode(): value for name, value in fields.items()}
    assert fields[b"tracking-active"] == 1 and fields[b"sample-ratio"] == 256
    return {key: (rate, float(share.rstrip(b"%"))) for key, rate, share in fields[b"by-operations"]}


def test_hot_keys_are_found_among_many(tally):
    client = tally.client()
    for line in ("ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes suffix=l"):
        client.execute_command(*line.split())
    assert hot_keys(client) == {}
    for turn in range(40):
        pipeline = client.pipeline(transaction=False)
        for number in range(1000):
            pipeline.incr(f"cold:{turn}:{number}")
            pipeline.get("hot read")
            if number % 2:
                pipeline.execute_command("INCR", "post:77.l")
        pipeline.execute()
    found = hot_keys(client, "COUNT", 2)
    assert list(found) == [b"hot read", b"post:77"], found
    assert 30 < found[b"hot read"][1] < 50 and 12 < found[b"post:77"][1] < 28, found
    assert found[b"hot read"][0] > found[b"post:77"][0] > 100
    # None of the many is there, unless by a rare chance.
    assert len(hot_keys(client)) <= 4
    for refused in (("COUNT", 0), ("COUNT", 65), ("COUNT", "x"), ("COUNT",), ("LIMIT", 3)):
        with pytest.raises(redis.ResponseError, match="COUNT"):
            client.execute_command("HOTKEYS", "GET", *refused)
    for refused in (("START", "METRICS", 1, "CPU"), ("STOP",)):
        with pytest.raises(redis.ResponseError, match="always tracked"):
            client.execute_command("HOTKEYS", *refused)
    assert client.execute_command("HOTKEYS", "RESET") == b"OK"
    assert hot_keys(client) == {}
