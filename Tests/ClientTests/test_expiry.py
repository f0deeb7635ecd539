"""Keys with a deadline, over restarts, merges and crashes."""

import random
import time

from servers import wait_until
from test_checkpoints import checkpoint


def milliseconds():
    return int(time.time() * 1000)


def test_keys_go_at_their_deadline_and_not_before(tally):
    client = tally.client()
    deadlines = {}
    base = milliseconds()
    for number in range(200):
        deadline = base + 300 + number * 5
        client.execute_command("SET", f"k{number}", number, "PXAT", deadline)
        deadlines[f"k{number}"] = deadline
    while milliseconds() < base + 1400:
        before = milliseconds()
        values = client.mget(list(deadlines))
        after = milliseconds()
        for (key, deadline), value in zip(deadlines.items(), values):
            assert value is not None or after >= deadline, key
            assert value is None or before < deadline, key
    assert client.dbsize() == 0
    assert client.info("stats")["expired_keys"] == 200


def test_what_nobody_asks_for_goes_too(tally):
    client = tally.client()
    pipeline = client.pipeline(transaction=False)
    for number in range(20_000):
        pipeline.execute_command("SET", f"gone:{number}", 1, "PX", 200 + number % 300)
        pipeline.set(f"stays:{number}", 1)
    pipeline.execute()
    checkpoint(client)
    wait_until(lambda: client.dbsize() == 20_000, "keys to be found", seconds=120)
    assert client.info("stats")["expired_keys"] == 20_000
    checkpoint(client)
    assert client.info("keyspace")["db0"]["expires"] == 0


def test_deadlines_survive(start_tally, tmp_path):
    """Restarts, kills, and checkpoints between: values, deadlines and what has gone stay so."""
    generator = random.Random(5)
    server = start_tally()
    far = 4102444800000
    expected = {}
    for round_number in range(6):
        client = server.client()
        for _ in range(300):
            key = f"k{generator.randrange(150)}"
            choice = generator.randrange(6)
            if choice == 0:
                expected[key] = [generator.randrange(99), far + generator.randrange(1000)]
                client.execute_command("SET", key, expected[key][0], "PXAT", expected[key][1])
            elif choice == 1 and key in expected:
                expected[key][1] = far + generator.randrange(1000)
                assert client.pexpireat(key, expected[key][1]) == 1
            elif choice == 2 and key in expected:
                client.persist(key)
                expected[key][1] = -1
            elif choice == 3:
                # Gone at once, for ever.
                client.execute_command("SET", key, 5, "PXAT", 1)
                expected.pop(key, None)
            elif choice == 4:
                client.incr(key)
                expected[key] = [expected.get(key, [0, -1])[0] + 1, expected.get(key, [0, -1])[1]]
            elif client.delete(key):
                expected.pop(key)
        if generator.random() < 0.5:
            checkpoint(client)
        server.kill() if round_number % 2 else server.stop()
        server.start().wait_until_ready()
        client = server.client()
        found = {}
        for key in client.scan_iter(count=1000):
            name = key.decode()
            found[name] = [int(client.get(key)), client.execute_command("PEXPIRETIME", key)]
        assert found == expected


def test_a_limiter_counts_in_windows(tally):
    """INCREX as a rate limiter: so many in a window, and a new one when it has passed."""
    client = tally.client()
    accepted = []
    end = time.time() + 1.6
    while time.time() < end:
        value, added = client.execute_command(
            "INCREX", "limit", "UBOUND", 5, "PX", 500, "ENX")
        if added:
            accepted.append(time.time())
        time.sleep(0.01)
    assert 15 <= len(accepted) <= 20
    for first, sixth in zip(accepted, accepted[5:]):
        assert sixth - first > 0.4
