"""Counter families: the language of counters, hashes and suffix keys on the same records."""

import random
import threading

import pytest
import redis

from protocol import RawConnection

MAX = (1 << 63) - 1
WEIBO = """
    ADD COUNTER weibo
    ADD COLUMN weibo weibo_id hint=64 max=64 default=0 primarykey
    ADD COLUMN weibo comment_num hint=16 max=32 default=0 suffix=cntcm
    ADD COLUMN weibo repost_num hint=16 max=32 default=0 suffix=cntrn
    ADD COLUMN weibo like_num hint=16 max=32 default=0 suffix=cntlk
"""


def say(client, line):
    """The reply to a command of words, bytes as text."""
    def text(reply):
        if isinstance(reply, list):
            return [text(each) for each in reply]
        if isinstance(reply, dict):
            return {text(key): text(value) for key, value in reply.items()}
        return reply.decode() if isinstance(reply, bytes) else reply
    try:
        # Not through redis-py's commands, which give some replies another form.
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*line.split())
            return text(connection.read_response())
        finally:
            client.connection_pool.release(connection)
    except redis.ResponseError as error:
        return f"-{error}"


def declare(client, text):
    for line in filter(str.strip, text.splitlines()):
        assert say(client, line) == "OK", line


@pytest.fixture
def client(tally):
    return tally.client()


@pytest.fixture
def weibo(client):
    declare(client, WEIBO)
    return client


def test_msetnx_asks_for_columns(weibo):
    """A column at its default is absent, whatever else the record has."""
    assert weibo.set("weibo:1.cntlk", 3)
    assert weibo.msetnx({"weibo:1.cntlk": 4, "weibo:2.cntlk": 4}) is False
    assert say(weibo, "GET weibo 1 2") == [[0, 0, 3], [0, 0, 0]]
    assert weibo.msetnx({"weibo:1.cntcm": 5, "weibo:2.cntlk": 1}) is True
    assert say(weibo, "GET weibo 1 2") == [[5, 0, 3], [0, 0, 1]]


def test_language_verbatim(weibo):
    assert say(weibo, "GET weibo 1234") == [0, 0, 0]
    assert say(weibo, "SET weibo 1234 111 222 333") == "OK"
    assert say(weibo, "GET weibo 1234") == [111, 222, 333]
    assert say(weibo, "GET weibo 1234.cntcm") == 111
    assert say(weibo, "INCR weibo 1234.cntcm") == 112
    assert say(weibo, "INCR weibo 1234.cntcm 8") == 120
    assert say(weibo, "INCRBY weibo 1234.cntcm 1") == 121
    assert say(weibo, "DECR weibo 1234.cntcm") == 120
    assert say(weibo, "SET weibo 1234.cntrn 5") == "OK"
    assert say(weibo, "GET weibo 1 1234 2.cntcm") == [[0, 0, 0], [120, 5, 333], 0]
    assert say(weibo, "EXISTS weibo 1 1234") == 1
    assert say(weibo, "DEL weibo 1234 7") == 1
    assert say(weibo, "GET weibo 1234") == [0, 0, 0]
    assert say(weibo, "DBSIZE") == 0


def test_three_ways_one_record(weibo):
    assert weibo.hincrby("weibo:9", "comment_num", 3) == 3
    assert weibo.incr("weibo:9.cntcm") == 4
    assert say(weibo, "INCR weibo 9.cntcm") == 5
    assert weibo.hgetall("weibo:9") == {
        b"comment_num": b"5", b"repost_num": b"0", b"like_num": b"0"}
    assert weibo.get("weibo:9.cntcm") == b"5"
    assert weibo.mget("weibo:9.cntcm", "weibo:8.cntcm", "nosuch") == [b"5", b"0", None]
    assert weibo.set("weibo:9.cntlk", 7) is True
    assert weibo.getset("weibo:9.cntlk", 8) == b"7"
    assert weibo.mset({"weibo:9.cntrn": 1, "plain": 2}) is True
    assert say(weibo, "GET weibo 9") == [5, 1, 8]
    assert weibo.getdel("weibo:9.cntlk") == b"8"
    assert weibo.setnx("weibo:9.cntlk", 3) is True
    assert weibo.setnx("weibo:9.cntlk", 4) is False
    assert weibo.msetnx({"weibo:9.cntlk": 1, "weibo:10.cntlk": 1}) is False
    assert weibo.delete("weibo:9.cntlk", "weibo:9.cntlk", "plain") == 2
    assert weibo.exists("weibo:9", "weibo:9.cntcm", "weibo:9.cntlk", "weibo:10") == 2
    assert weibo.type("weibo:9") == b"hash"
    assert weibo.type("weibo:10") == b"none"
    assert weibo.type("weibo:9.cntcm") == b"string"
    assert weibo.unlink("weibo:9") == 1
    assert weibo.dbsize() == 0


def test_hashes(weibo):
    key = "weibo:77"
    assert weibo.hset(key, mapping={"comment_num": 5, "repost_num": 0}) == 1
    assert weibo.hset(key, "comment_num", 6) == 0
    assert weibo.hmget(key, "comment_num", "nosuch", "like_num") == [b"6", None, b"0"]
    assert weibo.hget(key, "comment_num") == b"6"
    assert weibo.hget(key, "nosuch") is None
    assert weibo.hlen(key) == 3
    assert weibo.hkeys(key) == [b"comment_num", b"repost_num", b"like_num"]
    assert weibo.hvals(key) == [b"6", b"0", b"0"]
    assert weibo.hexists(key, "comment_num") is True
    assert weibo.hexists(key, "repost_num") is False
    assert weibo.hexists(key, "nosuch") is False
    assert weibo.hstrlen(key, "comment_num") == 1
    assert weibo.hsetnx(key, "like_num", 2) == 1
    assert weibo.hsetnx(key, "like_num", 3) == 0
    assert weibo.hdel(key, "comment_num", "repost_num", "nosuch") == 1
    assert weibo.hincrby(key, "like_num", -2) == 0
    assert weibo.exists(key) == 0


@pytest.mark.parametrize("line, part", [
    ("GET weibo", "'weibo' is a counter"),
    ("INCR weibo", "'weibo' is a counter"),
    ("SET weibo 5", "takes 3 values (comment_num repost_num like_num), not 0"),
    ("GET weibo 12x", "'12x' is no key of counter 'weibo'"),
    ("GET weibo -1", "'-1' is no key"),
    ("GET weibo 18446744073709551616", "is no key"),
    ("GET weibo 007", "is no key"),
    ("GET weibo 1.nosuch", "with a suffix: .cntcm, .cntrn, .cntlk"),
    ("GET weibo 1 2 x", "'x' is no key"),
    ("GET weibo:1", "name one of its columns with a suffix"),
    ("INCR weibo 1", "name one of its columns with a suffix"),
    ("INCR weibo 1.cntcm x", "not an integer"),
    ("INCR weibo 1.cntcm 1 1", "expected INCR weibo <key>.<suffix> [delta]"),
    ("SET weibo 1 2 3", "takes 3 values (comment_num repost_num like_num), not 2"),
    ("SET weibo 1 2 3 4294967296", "out of column 'like_num', which takes 0 to 4294967295"),
    ("SET weibo 1 2 3 -1", "out of column 'like_num'"),
    ("SET weibo 1.cntcm 1 2", "a column takes one value, not 2"),
    ("DECR weibo 1.cntcm", "column 'comment_num' of counter 'weibo' would leave its range"),
    ("INCR weibo 1.cntcm 4294967296", "would leave its range, 0 to 4294967295"),
    ("HINCRBY weibo:1 nosuch 1", "no column 'nosuch', only: comment_num"),
    ("HINCRBY foo:1 likes 1", "ADD COUNTER foo"),
    ("HGETALL plain", "ADD COUNTER plain"),
    ("HSET weibo:1 comment_num", "wrong number of arguments for 'hset'"),
    ("HSET weibo:1 comment_num 1 repost_num", "wrong number of arguments for 'hset'"),
    ("HSET weibo:1 comment_num 1 repost_num 1.5", "not an integer"),
    ("ADD COUNTER weibo", "counter 'weibo' exists already"),
    ("ADD COUNTER 12", "is no name"),
    ("ADD COLUMN weibo comment_num", "column 'comment_num' exists already"),
    ("ADD COLUMN weibo x suffix=cntcm", "another column has the suffix 'cntcm'"),
    ("ADD COLUMN weibo x default=-1", "default=-1 is not in 0"),
    ("ADD COLUMN weibo x hint=16 hint=3", "option 'hint' is given twice"),
    ("ADD COLUMN weibo x colour=red", "unknown option 'colour'"),
    ("ADD COLUMN nosuch x", "no such counter 'nosuch'"),
    ("ALTER COLUMN weibo comment_num max=16", "max can only grow, it is 32"),
    ("DROP COLUMN weibo nosuch", "no such column 'nosuch'"),
    ("DROP TABLE weibo", "expected ADD COUNTER, ALTER COUNTER"),
    ("DESCRIBE nosuch", "no such counter 'nosuch'"),
    ("INCREX weibo:1.cntcm EX 5", "records of a counter do not expire"),
    ("GET nosuch 1", "wrong number of arguments for 'get'"),
    ("INCR nosuch 1", "wrong number of arguments for 'incr'"),
])
def test_mistakes_are_named_and_change_nothing(shared_weibo, line, part):
    before = say(shared_weibo, "DESCRIBE weibo")
    reply = say(shared_weibo, line)
    assert isinstance(reply, str) and reply.startswith("-") and part in reply, reply
    assert say(shared_weibo, "DBSIZE") == 0
    assert say(shared_weibo, "DESCRIBE weibo") == before


@pytest.fixture(scope="module")
def shared_weibo(shared_tally):
    client = shared_tally.client()
    if not say(client, "DESCRIBE"):
        declare(client, WEIBO)
    return client


def test_columns_come_and_go_online(client):
    declare(client, "ADD COUNTER post\nADD COLUMN post id primarykey\nADD COLUMN post a suffix=a")
    for key in range(1000):
        client.incr(f"post:{key}.a")
    assert say(client, "INCR post 5") == 2  # The only column needs no suffix.
    declare(client, "ADD COLUMN post b default=7 suffix=b max=8")
    assert say(client, "GET post 5 1000") == [[2, 7], [0, 7]]
    assert say(client, "INCR post 5.b") == 8
    assert say(client, "INCR post 5.b 250").startswith("-column 'b'")
    declare(client, "ALTER COLUMN post b max=9 suffix=bee bound=saturate")
    assert say(client, "INCR post 5.bee 250") == 258
    assert say(client, "INCREX post:5.bee BYINT 1000") == [511, 253]
    assert say(client, "INCREX post:5.bee BYINT -9") == [502, -9]
    declare(client, "DROP COLUMN post a")
    assert say(client, "GET post 5 6") == [[502], [7]]
    assert say(client, "DROP COLUMN post b").startswith("-'b' is the counter's only column")
    assert client.dbsize() == 1 or client.dbsize() == 1000
    assert say(client, "DESCRIBE post") == [
        "ADD COUNTER post", "ADD COLUMN post id primarykey type=integer",
        "ADD COLUMN post b hint=16 max=9 min=0 default=7 suffix=bee bound=saturate"]
    declare(client, "DROP COUNTER post")
    assert say(client, "DESCRIBE") == []
    assert client.dbsize() == 0
    assert client.incr("post:5") == 1  # A plain key again.
    assert "plain keys" in say(client, "ADD COUNTER post")
    assert client.delete("post:5") == 1
    declare(client, "ADD COUNTER post")
    assert "no primary key yet" in say(client, "GET post 5")
    declare(client, "ADD COLUMN post id primarykey")
    assert "no columns yet" in say(client, "GET post 5")


def test_known_only_and_final_deletion(client):
    declare(client, """
        ADD COUNTER stock known=only
        ADD COLUMN stock sku primarykey type=string
        ADD COLUMN stock left suffix=left
        ADD COUNTER feed deleted=final
        ADD COLUMN feed id primarykey
        ADD COLUMN feed likes suffix=likes
    """)
    assert "have been SET only" in say(client, "INCR stock shoe.left")
    assert say(client, "SET stock shoe 0") == "OK"
    assert client.exists("stock:shoe") == 1
    assert say(client, "INCR stock shoe.left 3") == 3
    assert say(client, "DEL stock shoe") == 1
    assert "have been SET only" in say(client, "INCR stock shoe.left")
    assert say(client, "INCR feed 1.likes") == 1
    assert say(client, "DEL feed 1 2") == 1
    for key in (1, 2):
        assert "deletions are final" in say(client, f"INCR feed {key}.likes")
        assert "deletions are final" in say(client, f"SET feed {key} 5")
    assert say(client, "GET feed 1") == [0]
    assert say(client, "INCR feed 3.likes") == 1


def test_string_keys(client):
    declare(client, """
        ADD COUNTER user
        ADD COLUMN user name primarykey type=string
        ADD COLUMN user followers suffix=f min=-3
        ADD COLUMN user following suffix=g
    """)
    keys = ["bob", "a.b", "x" * 4096, "ключ", "a.f", "{tag}z"]
    for number, key in enumerate(keys):
        assert client.incrby(f"user:{key}.f", number) == number
        assert client.hincrby(f"user:{key}", "following", 1) == 1
        assert client.execute_command("INCR", "user", f"{key}.f", 1) == number + 1
    for number, key in enumerate(keys):
        assert client.execute_command("GET", "user", key + ".f") == number + 1
        assert client.hvals(f"user:{key}") == [b"%d" % (number + 1), b"1"]
    binary = b"\x00\xff\r\n\x80"
    assert client.hincrby(b"user:" + binary, "followers", -3) == -3
    assert client.execute_command("GET", "user", binary, "bob") == [[-3, 0], [1, 1]]
    with pytest.raises(redis.ResponseError, match="too long"):
        client.hincrby("user:" + "x" * 4097, "followers", 1)
    assert client.dbsize() == len(keys) + 1


def test_everything_survives_a_crash(start_tally, tmp_path):
    server = start_tally(directory=tmp_path / "crash")
    client = server.client()
    declare(client, WEIBO + """
    ADD COUNTER user
    ADD COLUMN user name primarykey type=string
    ADD COLUMN user followers suffix=f bound=saturate max=8
    """)
    generator = random.Random(1)
    for _ in range(3000):
        key = generator.choice([0, 1, 2, 4096, 4097, (1 << 64) - 1])
        client.execute_command("INCR", "weibo", f"{key}.cntcm", generator.randint(0, 9))
        client.incrby(f"user:u{key}.f", generator.randint(-9, 30))
    declare(client, "ADD COLUMN weibo views suffix=v min=-5 default=3")
    say(client, "SET weibo 5 1 2 3 4")
    say(client, "DEL weibo 1")
    client.hset("weibo:2", mapping={"views": -5, "like_num": 1})
    declare(client, "DROP COLUMN weibo repost_num")
    queries = [
        "GET weibo 0 1 2 4096 4097 5 18446744073709551615", "DESCRIBE weibo", "DESCRIBE user",
        "GET user u0 u1 u2 u4096 u4097", "DBSIZE",
    ]
    before = [say(client, query) for query in queries]
    for stop in (server.kill, server.stop):
        stop()
        server.start().wait_until_ready()
        client = server.client()
        assert [say(client, query) for query in queries] == before


def test_a_change_of_schema_is_seen_by_all_at_once(start_tally):
    """Commands that race with changes get a record of the old or the new columns, or are told."""
    server = start_tally("--threads", 2)
    declare(server.client(), "ADD COUNTER c\nADD COLUMN c id primarykey\nADD COLUMN c a suffix=a")
    stop = threading.Event()
    strange = []

    def read():
        client = server.client()
        while not stop.is_set():
            reply = say(client, "GET c 1 2 3")
            if isinstance(reply, str):
                if "just been changed" not in reply:
                    strange.append(reply)
            elif len({len(row) for row in reply}) != 1:
                strange.append(reply)

    def increment():
        client = server.client()
        for _ in range(2000):
            client.incr("c:1.a")

    readers = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    writers = [threading.Thread(target=increment, daemon=True) for _ in range(4)]
    for thread in readers + writers:
        thread.start()
    client = server.client()
    for number in range(100):
        declare(client, f"ADD COLUMN c x{number}")
        declare(client, f"DROP COLUMN c x{number}")
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not strange
    assert say(client, "GET c 1.a") == 8000


def test_bounds_are_judged_one_by_one(tally):
    """A hundred increments in one pipeline at a bound: each client gets its own answer."""
    declare(tally.client(), """
        ADD COUNTER quota
        ADD COLUMN quota id primarykey
        ADD COLUMN quota used max=6 suffix=u
        ADD COLUMN quota full max=6 suffix=f bound=saturate
    """)
    refusal = b"-ERR column 'used' of counter 'quota' would leave its range, 0 to 63\r\n"
    with RawConnection(tally.port) as connection:
        assert connection.exchange(b"INCRBY quota:1.u 2\r\n" * 40) == (
            b"".join(b":%d\r\n" % (2 * number) for number in range(1, 32)) + refusal * 9)
    with RawConnection(tally.port) as connection:
        assert connection.exchange(
            b"INCRBY quota:1.u 1\r\nDECRBY quota:1.f 5\r\n" + b"INCRBY quota:1.f 50\r\n" * 3
        ) == b":63\r\n:0\r\n:50\r\n:63\r\n:63\r\n"
    tally.kill()
    tally.start().wait_until_ready()
    assert say(tally.client(), "GET quota 1") == [63, 63]
