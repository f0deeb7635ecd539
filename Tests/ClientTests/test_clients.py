"""Clients that people use work unchanged."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import hiredis
import pytest
import redis
import valkey
from redis.exceptions import ConnectionError as RedisConnectionError

from protocol import RawConnection, encode
from servers import tool, wait_until

try:
    from redis._parsers import _HiredisParser, _RESP2Parser, _RESP3Parser
except ImportError:
    pytest.fail("this redis-py keeps its parsers elsewhere", pytrace=False)

MAX = (1 << 63) - 1
PARSERS = {
    "RESP2": (2, _RESP2Parser), "RESP3": (3, _RESP3Parser),
    "RESP2 with hiredis": (2, _HiredisParser), "RESP3 with hiredis": (3, _HiredisParser),
}


@pytest.fixture(params=PARSERS)
def client(request, shared_tally):
    """A redis-py client of each protocol version and parser, on an empty server."""
    version, parser = PARSERS[request.param]
    client = redis.Redis(
        connection_pool=redis.ConnectionPool(
            host="127.0.0.1", port=shared_tally.port, protocol=version, parser_class=parser,
            socket_timeout=30))
    client.flushall()
    assert isinstance(client.connection_pool.get_connection()._parser, parser)
    yield client
    client.close()
    client.connection_pool.disconnect()


def test_redis_py_counters(client):
    assert client.get("likes") is None
    assert client.incr("likes") == 1
    assert client.incrby("likes", 41) == 42
    assert client.decr("likes", 2) == 40
    assert client.set("likes", 7) is True
    assert client.set("likes", 8, nx=True) is None
    assert client.set("other", 8, xx=True) is None
    assert client.set("likes", 8, get=True) == b"7"
    assert client.setnx("other", 5) is True
    assert client.getset("other", 6) == b"5"
    assert client.mset({"a": 1, "b": -2}) is True
    assert client.mget("a", "b", "nosuch") == [b"1", b"-2", None]
    assert client.msetnx({"c": 1, "a": 2}) is False
    assert client.exists("a", "a", "c") == 2
    assert client.strlen("b") == 2
    assert client.type("a") == b"string"
    assert client.object("encoding", "a") == b"int"
    assert client.getdel("a") == b"1"
    assert client.delete("a", "b", "nosuch") == 1
    assert client.unlink("other") == 1
    assert client.dbsize() == 1
    with pytest.raises(redis.ResponseError, match="not an integer or out of range"):
        client.set("likes", "many")
    client.set("likes", MAX)
    with pytest.raises(redis.ResponseError, match="increment or decrement would overflow"):
        client.incr("likes")
    assert client.get("likes") == str(MAX).encode()


def test_redis_py_pipeline(client):
    pipeline = client.pipeline(transaction=False)
    for number in range(2000):
        pipeline.incrby(f"p{number % 10}", number)
        pipeline.get("nosuch")
    pipeline.mget(*(f"p{number}" for number in range(10)))
    replies = pipeline.execute()
    totals = [sum(range(digit, 2000, 10)) for digit in range(10)]
    assert replies[-1] == [str(total).encode() for total in totals]
    assert replies[-3] == totals[9]
    assert replies[1:-1:2] == [None] * 2000


def test_redis_py_pipeline_with_an_error(client):
    replies = client.pipeline(transaction=False).incr("a").incrby("a", "x").incr("a").execute(
        raise_on_error=False)
    assert replies[0] == 1 and replies[2] == 2
    assert "not an integer" in str(replies[1])


def test_redis_py_connection_commands(client):
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    seconds, microseconds = client.time()
    assert seconds > 1_600_000_000 and 0 <= microseconds < 1_000_000
    assert client.select(0)
    assert client.client_reply("ON")


def test_redis_py_client_commands(shared_tally):
    client = shared_tally.client(single_connection_client=True, client_name="alpha")
    other = shared_tally.client(single_connection_client=True, client_name="beta")
    assert client.client_getname() == "alpha"
    assert client.client_setname("gamma") and client.client_getname() == "gamma"
    assert client.client_setinfo("lib-name", "counting") is True
    assert client.client_setinfo("lib-ver", "1.2.3") is True
    own = client.client_info()
    assert own["id"] == client.client_id()
    assert own["name"] == "gamma" and own["lib-name"] == "counting" and own["lib-ver"] == "1.2.3"
    assert own["cmd"] == "client|info"
    host, port = own["addr"].split(":")
    assert host == "127.0.0.1" and own["laddr"] == f"127.0.0.1:{shared_tally.port}"
    other.incrby("a", 2)
    names = {each["name"]: each for each in client.client_list()}
    assert names["beta"]["cmd"] == "incrby"
    assert [each["name"] for each in client.client_list(client_id=[own["id"]])] == ["gamma"]
    assert client.client_kill_filter(_id=names["beta"]["id"]) == 1
    with pytest.raises(RedisConnectionError):
        other.ping()
    wait_until(
        lambda: "beta" not in {each["name"] for each in client.client_list()},
        "the killed connection to go")
    assert client.client_kill_filter(_id=own["id"]) == 0
    assert client.client_no_evict("on") == "OK" or client.client_no_evict("on") == b"OK"
    with RawConnection(shared_tally.port) as victim:
        address = "{}:{}".format(*victim.socket.getsockname())
        assert victim.call("PING") == b"+PONG\r\n"
        assert client.client_kill(address)
        assert victim.read_until_closed() == b""
    assert port != "0"


def test_killing_itself_still_gets_the_reply(shared_tally):
    with RawConnection(shared_tally.port) as connection:
        number = connection.call("CLIENT", "ID").strip(b":\r\n")
        connection.send(encode("CLIENT", "KILL", "ID", number, "SKIPME", "no") + encode("PING"))
        assert connection.read_until_closed() == b":1\r\n"


def test_a_client_that_only_closes_its_sending_side(shared_tally):
    """As `printf 'INCR a\\r\\n' | nc` does: replies still come, and then the end."""
    client = shared_tally.client()
    client.flushall()
    for number in range(1, 21):
        with RawConnection(shared_tally.port) as connection:
            connection.send(b"INCR a\r\nGET a\r\n")
            connection.socket.shutdown(socket.SHUT_WR)
            got = connection.read_until_closed()
            assert got == b":%d\r\n$%d\r\n%d\r\n" % (number, len(str(number)), number)


def test_redis_py_info(client):
    client.mset({"a": 1, "b": 2})
    info = client.info()
    assert info["redis_mode"] == "standalone" and info["server_name"] == "tally"
    assert info["process_id"] > 0 and info["tcp_port"] > 0
    assert info["connected_clients"] >= 1 and info["maxclients"] == 10_000
    assert info["used_memory"] > 0 and info["used_memory_rss"] > 1 << 20
    assert info["maxmemory_policy"] == "noeviction"
    assert info["loading"] == 0 and info["durability"] == "always" and info["journal_space"] == "ok"
    assert info["total_commands_processed"] >= 1 and info["journal_groups"] >= 1
    assert info["role"] == "master" and info["connected_slaves"] == 0
    assert isinstance(info["used_cpu_user"], float) and isinstance(info["used_cpu_sys"], float)
    assert info["db0"] == {"keys": 2, "expires": 0, "avg_ttl": 0}
    assert client.info("keyspace") == {"db0": {"keys": 2, "expires": 0, "avg_ttl": 0}}
    assert set(client.info("clients")) == {"connected_clients", "maxclients", "blocked_clients"}
    for section in ["server", "memory", "persistence", "stats", "replication", "cpu", "cluster"]:
        assert client.info(section), section
    assert client.info("nosuch") == {}
    both = client.info("cpu", "Keyspace")
    assert "db0" in both and "used_cpu_user" in both and "role" not in both


def test_redis_py_config(client):
    names = client.config_get()
    assert names["maxmemory-policy"] == "noeviction" and names["appendonly"] == "yes"
    assert names["databases"] == "1" and names["durability"] == "always"
    assert client.config_get("max*") == {
        name: names[name] for name in names if name.startswith("max")}
    assert client.config_set("maxmemory", "100mb") is True
    assert client.config_get("maxmemory") == {"maxmemory": str(100 << 20)}
    assert client.config_set("maxmemory", 0) is True
    for name, value in [("nosuch", 1), ("port", 1), ("maxclients", "many"), ("timeout", -1)]:
        with pytest.raises(redis.ResponseError):
            client.config_set(name, value)
    assert client.config_get("port") == {"port": names["port"]}
    assert client.config_resetstat() is True
    assert client.info("stats")["total_connections_received"] == 0


def test_redis_py_command_table(client):
    table = client.command()
    assert client.command_count() == len(table)
    assert table["get"]["arity"] == 2 and table["mset"]["step_count"] == 2
    listed = {name.decode() for name in client.command_list()}
    assert listed == set(table)
    matching = {name.decode() for name in client.command_list(category="write")}
    assert "incr" in matching and "get" not in matching
    assert set(client.command_list(pattern="getd*")) == {b"getdel"}
    keys = client.command_getkeys("MSET", "a", 1, "b", 2)
    assert [each if isinstance(each, str) else each.decode() for each in keys] == ["a", "b"]
    info = client.execute_command("COMMAND INFO", "incr", "nosuch")
    assert "incr" in str(info)


def test_command_docs(shared_tally):
    """As redis-cli asks for them, in both versions; redis-py does not offer this command."""
    for version in (2, 3):
        reader = hiredis.Reader()
        with RawConnection(shared_tally.port) as connection:
            connection.call("HELLO", version)
            for names in ([], ["incr", "client", "nosuch"]):
                reader.feed(connection.call("COMMAND", "DOCS", *names))
                docs = reader.gets()
                if version == 2:
                    docs = dict(zip(docs[::2], docs[1::2]))
                assert b"incr" in docs and b"nosuch" not in docs
                if names:
                    assert set(docs) == {b"incr", b"client"}


@pytest.mark.parametrize("version", [2, 3])
def test_hiredis(shared_tally, version):
    """The C parser of the Redis project reads every reply, however it is cut."""
    with RawConnection(shared_tally.port) as connection:
        connection.call("FLUSHALL")
        replies = connection.call("HELLO", version)
        for arguments in [
            ("INCR", "a"), ("GET", "a"), ("GET", "b"), ("MGET", "a", "b"), ("INCRBY", "a", "x"),
            ("CONFIG", "GET", "*"), ("COMMAND",), ("INFO",), ("CLIENT", "LIST"), ("TIME",),
        ]:
            replies += connection.call(*arguments)
    reader, values = hiredis.Reader(), []
    for start in range(0, len(replies), 7):
        reader.feed(replies[start:start + 7])
        while (value := reader.gets()) is not False:
            values.append(value)
    assert len(values) == 11
    assert values[1:5] == [1, b"1", None, [b"1", None]]
    assert isinstance(values[5], hiredis.ReplyError)
    assert isinstance(values[0], dict if version == 3 else list)
    assert isinstance(values[6], dict if version == 3 else list)


def test_valkey_py(shared_tally):
    client = valkey.Valkey(host="127.0.0.1", port=shared_tally.port, socket_timeout=30)
    client.flushall()
    assert client.incr("a", 5) == 5
    assert client.pipeline(transaction=False).incr("a").get("a").execute() == [6, b"6"]
    assert client.info()["db0"]["keys"] == 1
    assert client.mget("a", "b") == [b"6", None]


def command_line(server, *arguments, given=None):
    """What redis-cli prints."""
    result = subprocess.run(
        [tool("redis-cli"), "-p", str(server.port), *arguments], input=given,
        capture_output=True, timeout=60, check=True)
    assert result.stderr == b""
    return result.stdout.decode()


def test_redis_cli(shared_tally):
    command_line(shared_tally, "FLUSHALL")
    assert command_line(shared_tally, "INCRBY", "a", "5") == "5\n"
    assert command_line(shared_tally, "--no-raw", "INCR", "a") == "(integer) 6\n"
    assert command_line(shared_tally, "--no-raw", "GET", "a") == '"6"\n'
    assert command_line(shared_tally, "--no-raw", "GET", "b") == "(nil)\n"
    assert command_line(shared_tally, "-3", "MGET", "a", "b") == "6\n\n"
    assert command_line(shared_tally, "-r", "5", "INCR", "a").split() == ["7", "8", "9", "10", "11"]
    assert command_line(shared_tally, given=b"INCR a\nDECR a\nGET a\n") == "12\n11\n11\n"
    assert "tally_version" in command_line(shared_tally, "INFO", "server")
    assert "not an integer" in command_line(shared_tally, "SET", "a", "x")
    assert "keys=1" in command_line(shared_tally, "-3", "INFO", "keyspace")


def test_redis_cli_mass_insertion(shared_tally):
    command_line(shared_tally, "FLUSHALL")
    given = b"".join(encode("INCRBY", f"key:{number % 1000}", 3) for number in range(50_000))
    assert "errors: 0, replies: 50000" in command_line(shared_tally, "--pipe", given=given)
    assert command_line(shared_tally, "GET", "key:999") == "150\n"
    assert command_line(shared_tally, "DBSIZE") == "1000\n"


@pytest.mark.parametrize("pipeline", [1, 16])
def test_redis_benchmark(shared_tally, pipeline):
    base = [tool("redis-benchmark"), "-p", str(shared_tally.port), "-q", "-n", "20000", "-c", "20",
            "-P", str(pipeline)]
    for workload in [
        ["-t", "ping,get,incr"], ["-r", "1000", "SET", "key:__rand_int__", "123"],
        ["MSET", "a", "1", "b", "2"], ["-3", "-t", "get,incr"],
    ]:
        shared_tally.client().flushall()
        result = subprocess.run(
            base + workload, capture_output=True, text=True, timeout=120, check=True)
        assert "requests per second" in result.stdout
        assert "rror" not in result.stdout + result.stderr
        client = shared_tally.client()
        if workload == ["-t", "ping,get,incr"]:
            assert client.get("counter:__rand_int__") == b"20000"
        elif "MSET" in workload:
            assert client.mget("a", "b") == [b"1", b"2"]
        elif "SET" in workload:
            assert 900 < client.dbsize() <= 1000


def test_every_command_of_redis_is_there_or_says_why_not(shared_tally, redis_server):
    page = (Path(__file__).parents[2] / "docs/redis-compatibility.md").read_text()
    named = set(re.findall(r"[A-Z0-9_-]+", page))
    ours = {name.decode() for name in shared_tally.client().command_list() if b"|" not in name}
    theirs = {name.decode() for name in redis_server.client().command_list() if b"|" not in name}
    with RawConnection(shared_tally.port) as connection:
        for name in sorted(theirs):
            assert name.upper() in named, f"{name} is not in docs/redis-compatibility.md"
            if name not in ours:
                reply = connection.call(name, "x").decode()
                assert reply.startswith(f"-ERR unknown command '{name}': "), reply
    # What is there beyond this Redis is later ones', or another page's.
    assert ours - theirs == {
        "add", "alter", "atleast", "backup", "describe", "drop", "hotkeys", "import", "increx", "once",
        "waitaof", "withposition"}


def test_django_cache_and_ratelimit(tally):
    """Django's own cache backend for Redis, and a limiter that counts in it."""
    program = f"""
import django
from django.conf import settings
settings.configure(
    CACHES={{"default": {{"BACKEND": "django.core.cache.backends.redis.RedisCache",
                        "LOCATION": "redis://127.0.0.1:{tally.port}"}}}},
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"],
    SILENCED_SYSTEM_CHECKS=["django_ratelimit.E003", "django_ratelimit.W001"],
    INSTALLED_APPS=["django_ratelimit"])
django.setup()
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django_ratelimit.decorators import ratelimit

assert cache.set("likes", 7) is None and cache.get("likes") == 7
assert cache.incr("likes") == 8 and cache.incr("likes", 4) == 12 and cache.decr("likes", 2) == 10
assert cache.add("likes", 1) is False and cache.add("views", 1, timeout=100) is True
assert cache.get_or_set("shares", 5) == 5
cache.set_many({{"a": 1, "b": -2}}, timeout=50)
assert cache.get_many(["a", "b", "c"]) == {{"a": 1, "b": -2}}
assert cache.touch("a", 500) is True and cache.touch("nosuch") is False
assert cache.has_key("a") and cache.delete("a") and not cache.has_key("a")
cache.delete_many(["b", "views"])
try:
    cache.incr("nosuch")
except ValueError:
    pass
else:
    raise AssertionError("an absent key was incremented")

@ratelimit(key="ip", rate="3/m", block=True)
def limited(request):
    return HttpResponse("ok")

urlpatterns = [path("limited", limited)]
client = Client()
codes = [client.get("/limited").status_code for _ in range(6)]
assert codes == [200, 200, 200, 403, 403, 403], codes
cache.clear()
assert cache.get("likes") is None
print("counted")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.strip() == "counted", ended.stderr
