"""Positions: what a reply reflects, and reads that demand at least that."""

import pytest
import redis

from test_once import token


def positions(flat):
    """A map, flat in RESP2, as a dictionary of partitions and (epoch, sequence)."""
    if isinstance(flat, dict):
        flat = [part for pair in flat.items() for part in pair]
    return {
        flat[index]: tuple(map(int, flat[index + 1].split(b"-")))
        for index in range(0, len(flat), 2)}


def test_replies_tell_their_positions(tally):
    client = tally.client()
    value, first = client.execute_command("WITHPOSITION", "INCR", "a")
    assert value == 1
    ((partition, (epoch, sequence)),) = positions(first).items()
    assert epoch == 1 and sequence >= 1
    # A read reflects the latest change of the partition, and changes nothing.
    value, second = client.execute_command("WITHPOSITION", "GET", "a")
    assert value == b"1" and positions(second) == {partition: (epoch, sequence)}
    value, third = client.execute_command("WITHPOSITION", "INCRBY", "a", 5)
    assert value == 6 and positions(third)[partition] > (epoch, sequence)
    values, several = client.execute_command("WITHPOSITION", "MGET", *(f"k{n}" for n in range(50)))
    assert len(values) == 50 and len(positions(several)) > 5
    assert client.info("persistence")["durable_sequence"] >= positions(third)[partition][1]
    name = token()
    for _ in range(2):
        reply = client.execute_command("WITHPOSITION", "ONCE", name, "INCR", "a")
        assert reply[0] == 7 and positions(reply[1])[partition][0] == epoch


def test_reads_demand_a_position(tally):
    client, other = tally.client(), tally.client()
    for number in range(20):
        _, flat = client.execute_command("WITHPOSITION", "INCR", "a")
        epoch, sequence = max(positions(flat).values())
        assert other.execute_command("ATLEAST", f"{epoch}-{sequence}", "GET", "a") == b"%d" % (number + 1)
        both = other.execute_command("ATLEAST", f"{epoch}-{sequence}", "WITHPOSITION", "GET", "a")
        assert both[0] == b"%d" % (number + 1)
    tally.kill()
    tally.start().wait_until_ready()
    assert tally.client().execute_command("ATLEAST", f"{epoch}-{sequence}", "GET", "a") == b"20"


def test_mistakes_are_named(tally):
    client = tally.client()
    for command, part in [
            (("WITHPOSITION",), "wrong number of arguments"),
            (("WITHPOSITION", "PING"), "only commands about counters have positions"),
            (("WITHPOSITION", "ADD", "COUNTER", "x"), "only commands about counters"),
            (("WITHPOSITION", "NOSUCH"), "unknown command 'NOSUCH'"),
            (("WITHPOSITION", "INCR"), "wrong number of arguments for 'incr'"),
            (("ATLEAST", "1-1"), "wrong number of arguments"),
            (("ATLEAST", "x", "GET", "a"), "a position is an epoch"),
            (("ATLEAST", "1", "GET", "a"), "a position is an epoch"),
            (("ATLEAST", "7-1", "GET", "a"), "POSITIONLOST"),
            (("ATLEAST", "1-99999", "GET", "a"), "POSITIONLOST"),
    ]:
        with pytest.raises(redis.exceptions.ResponseError, match=part):
            client.execute_command(*command)
    assert client.dbsize() == 0
    with pytest.raises(redis.exceptions.ResponseError):
        client.execute_command("DESCRIBE", "x")


@pytest.mark.parametrize("durability", ["always", "interval=2000", "none"])
def test_waitaof_brings_everything_to_the_disk(start_tally, durability):
    """Whatever the durability: what WAITAOF has confirmed is there after a kill."""
    server = start_tally("--durability", durability)
    for round_number in range(1, 4):
        client = server.client()
        for number in range(300):
            client.incr(f"k{number}")
        assert client.execute_command("WAITAOF", 1, 0, 10_000) == [1, 0]
        server.kill()
        server.start().wait_until_ready()
        assert set(server.client().mget(f"k{number}" for number in range(300))) == {b"%d" % round_number}
    client = server.client()
    assert client.execute_command("WAITAOF", 0, 0, 0)[1] == 0
    assert client.wait(1, 50) == 0
    for command, part in [
            (("WAITAOF", 2, 0, 0), "between 0 and 1"), (("WAITAOF", 1, -1, 0), "positive"),
            (("WAITAOF", 1, 0, -1), "negative"), (("WAITAOF", 1, 0, "x"), "not an integer"),
            (("WAITAOF", 1, 0), "wrong number of arguments")]:
        with pytest.raises(redis.exceptions.ResponseError, match=part):
            client.execute_command(*command)
