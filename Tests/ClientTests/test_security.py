"""Users, permissions, TLS: who may do what, and what is told to whom."""

import os
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
import redis

from protocol import RawConnection, encode
from servers import TallyServer, free_port, run_tally, tally_binary, wait_until

PASSWORD = "correct horse battery staple"
OTHER_PASSWORD = "tr0ub4dor and three"


def hashed(password):
    """What a users' file keeps of a password."""
    made = subprocess.run(
        [tally_binary(), "password"], input=password + "\n", capture_output=True, text=True,
        check=True)
    return made.stdout.strip()


@pytest.fixture(scope="module")
def password_hash():
    return hashed(PASSWORD)


def users_file(tmp_path, password_hash, extra=""):
    path = tmp_path / "users.yaml"
    path.write_text(f"""\
reader:
  password: {password_hash}
  may: [read]
writer:
  passwords: ["{password_hash}"]
  may: write
admin:
  password: {password_hash}
  may: [admin]
likes:
  password: {password_hash}
  may: [read, write]
  keys: ["like:*", "post:*"]
root:
  password: {password_hash}
  may: [read, write, admin]
gone:
  password: {password_hash}
  may: [read, write, admin]
  enabled: false
{extra}""")
    return path


@pytest.fixture
def guarded(start_tally, tmp_path, password_hash):
    """A server where everybody has to log in."""
    return start_tally("--users", users_file(tmp_path, password_hash))


def as_user(server, name, password=PASSWORD, **options):
    return server.client(username=name, password=password, **options)


# MARK: Who may do what

USERS = ["reader", "writer", "admin", "likes", "root"]
PERMISSIONS = {
    "reader": {"read"}, "writer": {"write"}, "admin": {"admin"}, "likes": {"read", "write"},
    "root": {"read", "write", "admin"},
}
# What each command needs, apart from those that need nothing. A command that is not here needs nothing:
# the test fails for one whose flags say otherwise.
NEEDED = {
    "read": """
        get mget exists touch type strlen ttl pttl expiretime pexpiretime scan keys randomkey dbsize hget
        hmget hgetall hkeys hvals hlen hexists hstrlen hscan describe info lastsave watch lolwut memory|stats memory|doctor
        object|encoding object|refcount object|idletime object|freq memory|usage""",
    "write": """
        incr decr incrby decrby increx set setnx getset getdel mset msetnx del unlink getex setex psetex expire
        pexpire expireat pexpireat persist copy rename renamenx hincrby hset hmset hsetnx hdel once""",
    "admin": """
        flushall flushdb add alter drop import|start import|commit import|status backup|start
        backup|status bgsave config|get config|set config|resetstat config|help client|list client|kill
        acl|users acl|list acl|getuser acl|load acl|dryrun acl|setuser acl|deluser acl|save
        hotkeys|get hotkeys|reset hotkeys|start hotkeys|stop slowlog|get
        slowlog|len slowlog|reset latency|latest latency|history latency|reset latency|doctor monitor
        client|pause client|unpause client|unblock""",
}
NEEDED_BY = {name: kind for kind, names in NEEDED.items() for name in names.split()}
SPANNING = {"scan", "keys", "randomkey", "flushall", "flushdb"}


def arguments(name, info):
    """Some command of this name, on the key `like:1`, that need not succeed."""
    count = max(abs(info["arity"]), 2 if "|" in name else 1)
    words = name.split("|")
    if name == "once":
        return ["once", "019aa7c4-3c5e-7d1a-8b1e-5f3a9c2d4e6f", "incr", "like:1"]
    words += ["like:1"] * (count - len(words))
    return words


def every_command(client):
    """Names of all commands and subcommands, and what COMMAND INFO says of them."""
    for entry in client.execute_command("COMMAND"):
        info = {"arity": entry[1], "flags": {flag.decode() for flag in entry[2]}}
        if not entry[9]:
            yield entry[0].decode(), info
        for sub in entry[9]:
            yield sub[0].decode(), {"arity": sub[1], "flags": {f.decode() for f in sub[2]}}


def test_every_command_by_every_kind_of_user(guarded):
    with as_user(guarded, "root") as root:
        # As it comes, and not as redis-py would have it.
        root.set_response_callback("COMMAND", lambda response, **_: response)
        commands = [
            (name, info) for name, info in every_command(root)
            if name not in ("quit", "reset", "auth", "hello", "once|x", "client|reply", "multi", "exec")]
    assert len(commands) > 100
    for name, info in commands:
        if NEEDED_BY.get(name) is None:
            assert not info["flags"] & {"write", "admin"} or name in ("client|no-evict",), name
    wrong = []
    for user in [None, *USERS]:
        for name, info in commands:
            with RawConnection(guarded.port) as connection:
                if user:
                    assert connection.call("AUTH", user, PASSWORD) == b"+OK\r\n"
                reply = connection.call(*arguments(name, info))
            need = NEEDED_BY.get(name)
            if user is None:
                expected = b"-NOAUTH"
            elif need is not None and need not in PERMISSIONS[user]:
                expected = b"-NOPERM User"
            elif user == "likes" and name in SPANNING:
                expected = b"-NOPERM No permissions to access a key"
            else:
                expected = None
            is_refused = reply.startswith((b"-NOAUTH", b"-NOPERM"))
            if (expected is None and is_refused) or (expected and not reply.startswith(expected)):
                wrong.append((user, name, reply))
    assert not wrong


@pytest.mark.parametrize("command, is_allowed", [
    (["INCR", "like:1"], True), (["INCR", "view:1"], False), (["MGET", "like:1", "like:2"], True),
    (["MGET", "like:1", "view:2"], False), (["MSET", "like:1", 1, "view:1", 2], False),
    (["COPY", "like:1", "like:2"], True), (["COPY", "like:1", "view:2"], False),
    (["OBJECT", "ENCODING", "like:1"], True), (["OBJECT", "ENCODING", "view:1"], False),
    (["WATCH", "view:1"], False), (["ATLEAST", "1-0", "GET", "view:1"], False),
    (["WITHPOSITION", "GET", "view:1"], False), (["WITHPOSITION", "GET", "like:1"], True),
    (["ONCE", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "INCR", "view:1"], False),
    (["WITHPOSITION", "ONCE", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "INCR", "view:1"], False),
    (["HINCRBY", "post:1", "n", 1], True), (["HINCRBY", "user:1", "n", 1], False),
    (["INCR", "post", "1.n"], True), (["INCR", "user", "1.n"], False), (["GET", "post", "1"], True),
    (["GET", "user", "1"], False), (["DEL", "user", "1", "2"], False), (["SCAN", "0"], False),
    (["KEYS", "like:*"], False), (["INCR", "like:"], True), (["INCR", "like"], False),
])
def test_key_patterns(guarded, command, is_allowed):
    with as_user(guarded, "root") as root:
        for family in ("post", "user"):
            for line in (f"ADD COUNTER {family}", f"ADD COLUMN {family} id primarykey",
                         f"ADD COLUMN {family} n suffix=n"):
                root.execute_command(*line.split())
    with RawConnection(guarded.port) as connection:
        assert connection.call("AUTH", "likes", PASSWORD) == b"+OK\r\n"
        reply = connection.call(*command)
        assert reply.startswith(b"-NOPERM") != is_allowed, reply
        # In a transaction it is refused when it is queued, and the transaction with it.
        if command[0] not in ("WATCH", "WITHPOSITION", "ATLEAST", "ONCE"):
            connection.call("MULTI")
            assert connection.call(*command).startswith(b"-NOPERM") != is_allowed
            assert connection.call("EXEC").startswith(b"-EXECABORT") != is_allowed


def test_a_user_sees_no_passwords(guarded, password_hash):
    with as_user(guarded, "root") as root:
        assert root.acl_whoami() == "root"
        told = repr([
            root.execute_command("ACL", "LIST"), root.execute_command("ACL", "GETUSER", "likes"),
            root.info(), root.config_get("*"), root.client_list()])
        assert "likes" in told
        assert PASSWORD not in told and password_hash not in told and "scrypt" not in told
        assert set(root.execute_command("ACL", "USERS")) == {
            b"reader", b"writer", b"admin", b"likes", b"root", b"gone"}
        assert root.execute_command("ACL", "DRYRUN", "likes", "GET", "like:1") == b"OK"
        assert root.execute_command("ACL", "DRYRUN", "likes", "GET", "x") == (
            b"No permissions to access a key")
        assert root.execute_command("ACL", "DRYRUN", "reader", "ONCE",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV", "INCR", "x").startswith(b"User reader has no permissions")
        for command in ("SETUSER x on", "DELUSER x", "SAVE"):
            with pytest.raises(redis.ResponseError, match="users are kept in a file"):
                root.execute_command("ACL", *command.split())
        assert [each["user"] for each in root.client_list()] == ["root"]


# MARK: Logging in

def test_ways_to_log_in(guarded):
    for version in (2, 3):
        with as_user(guarded, "likes", protocol=version) as client:
            assert client.incr("like:1") == version - 1
    with RawConnection(guarded.port) as connection:
        assert connection.call("HELLO", 3).startswith(b"-NOAUTH HELLO must be called")
        assert connection.call("HELLO", 3, "AUTH", "likes", "wrong").startswith(b"-WRONGPASS")
        assert connection.call("GET", "like:1").startswith(b"-NOAUTH")
        assert connection.call("HELLO", 3, "AUTH", "likes", PASSWORD, "SETNAME", "me")[:1] == b"%"
        assert connection.call("CLIENT", "GETNAME") == b"$2\r\nme\r\n"
        assert connection.call("RESET") == b"+RESET\r\n"
        assert connection.call("GET", "like:1").startswith(b"-NOAUTH")
        assert connection.call("AUTH", PASSWORD).startswith(b"-WRONGPASS")
        assert connection.call("AUTH", "gone", PASSWORD).startswith(b"-WRONGPASS")
        assert connection.call("AUTH", "nobody", PASSWORD).startswith(b"-WRONGPASS")
        assert connection.call("AUTH", "a", "b", "c").startswith(b"-ERR syntax error")
        assert connection.call("AUTH", "likes", PASSWORD) == b"+OK\r\n"
        assert connection.call("AUTH", "likes", "wrong").startswith(b"-WRONGPASS")
        # A login that fails leaves things as they are.
        assert connection.call("ACL", "WHOAMI") == b"$5\r\nlikes\r\n"
        # Commands behind AUTH in one packet wait for it.
        both = connection.exchange(
            encode("AUTH", "reader", PASSWORD) + encode("ACL", "WHOAMI") + encode("CLIENT", "REPLY", "ON"))
        assert both == b"+OK\r\n$6\r\nreader\r\n+OK\r\n"


def test_without_users_auth_is_refused_as_redis_does(tally):
    with RawConnection(tally.port) as connection:
        assert b"without any password configured" in connection.call("AUTH", "x")
        assert connection.call("AUTH", "nobody", "x").startswith(b"-WRONGPASS")
        assert connection.call("AUTH", "default", "x") == b"+OK\r\n"
        assert connection.call("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"


def test_password_guessing_is_slow_bounded_and_logged(guarded):
    """Many guesses at a time leave others alone, and the log readable."""
    deadline = time.monotonic() + 4
    outcomes = []

    def guess(number):
        with RawConnection(guarded.port) as connection:
            while time.monotonic() < deadline:
                reply = connection.call("AUTH", f"likes\r\nx{number}" if number % 2 else "likes", f"guess {number}")
                outcomes.append(reply)

    with as_user(guarded, "root") as root:
        root.ping()
        threads = [
            threading.Thread(target=guess, args=(number,), daemon=True) for number in range(12)]
        for thread in threads:
            thread.start()
        slowest = 0
        while time.monotonic() < deadline:
            begun = time.monotonic()
            root.incr("like:1")
            slowest = max(slowest, time.monotonic() - begun)
        for thread in threads:
            thread.join()
        # Somebody whose password is known comes in at once.
        with as_user(guarded, "root") as other:
            assert other.ping()
    checked = sum(reply.startswith(b"-WRONGPASS") for reply in outcomes)
    busy = sum(reply.startswith(b"-ERR too many passwords") for reply in outcomes)
    assert checked > 0 and busy > 0 and checked + busy == len(outcomes)
    # One thread checks, and it takes milliseconds each.
    assert checked < 4 * 200
    lines = [line for line in guarded.log().splitlines() if "a login failed" in line]
    assert 1 <= len(lines) <= 7
    assert PASSWORD not in guarded.log() and "guess " not in guarded.log()


def test_strangers_get_little_memory(guarded):
    with RawConnection(guarded.port) as connection:
        connection.socket.sendall(b"*2\r\n$4\r\nAUTH\r\n$1000000\r\n" + b"x" * 20_000)
        assert b"commands before AUTH" in connection.read_until_closed()
    with RawConnection(guarded.port) as connection:
        connection.socket.sendall(encode("ECHO", b"x" * 20_000))
        assert b"commands before AUTH" in connection.read_until_closed()
    with as_user(guarded, "root") as root:
        assert root.echo("x" * 20_000) == b"x" * 20_000


# MARK: Changing users

def test_reload(guarded, tmp_path, password_hash):
    path = tmp_path / "users.yaml"
    with as_user(guarded, "likes") as likes, as_user(guarded, "reader") as reader, \
            as_user(guarded, "root") as root:
        assert likes.incr("like:1") == 1 and reader.get("like:1") == b"1"
        path.write_text(f"""\
likes: {{password: {hashed(OTHER_PASSWORD)}, may: [read]}}
root: {{password: {password_hash}, may: [read, write, admin]}}
""")
        guarded.send_signal(signal.SIGHUP)
        wait_until(lambda: "have been read again" in guarded.log(), "the reload")
        with pytest.raises(redis.exceptions.NoPermissionError):
            likes.incr("like:1")
        assert likes.get("view:1") is None
        with pytest.raises(redis.AuthenticationError):
            reader.get("like:1")
        with pytest.raises(redis.AuthenticationError):
            as_user(guarded, "likes").ping()
        assert as_user(guarded, "likes", OTHER_PASSWORD).ping()
        # What is wrong changes nothing, and says what it is without showing passwords.
        for text, reason in [
                ("", "nobody could log in"), ("likes: 3", "not a mapping"), ("likes: {may: [fly]}", "fly"),
                (f"likes: {{password: {password_hash}}}", "needs a field 'may'"),
                ("likes: {password: secret-in-clear, may: [read]}", "not what `tally password` makes"),
                ("likes: {may: [read]}", "needs a password"), ("likes: {say: [read]}", "'say'"),
                (f"a b: {{password: {password_hash}, may: [read]}}", "must be a word"),
                ("[1, 2]", "not a mapping"), ("likes: {", "no YAML")]:
            path.write_text(text)
            with pytest.raises(redis.ResponseError, match="users are as they were") as error:
                root.execute_command("ACL", "LOAD")
            assert reason in str(error.value)
        assert "secret-in-clear" not in guarded.log()
        assert likes.get("view:1") is None


def test_a_transaction_ends_when_users_change(guarded):
    with RawConnection(guarded.port) as likes, as_user(guarded, "root") as root:
        assert likes.call("AUTH", "likes", PASSWORD) == b"+OK\r\n"
        likes.call("MULTI")
        assert likes.call("INCR", "like:1") == b"+QUEUED\r\n"
        assert root.execute_command("ACL", "LOAD") == b"OK"
        assert likes.call("EXEC").startswith(b"-EXECABORT")


def test_administration_is_logged(guarded):
    with as_user(guarded, "root") as root:
        root.config_set("timeout", 300)
        root.execute_command("ADD", "COUNTER", "post")
        root.flushall()
        root.config_get("timeout")
    lines = [line for line in guarded.log().splitlines() if line.endswith("] administration")]
    assert len(lines) == 3
    assert all("user=root" in line and "address=127.0.0.1" in line for line in lines), lines
    assert "CONFIG SET timeout 300" in lines[0] and "FLUSHALL" in lines[2]


# MARK: Starting

@pytest.mark.parametrize("flags, reason", [
    (["--host", "0.0.0.0"], "can be reached by others"),
    (["--users", "/nonexistent"], "no readable UTF-8 file"),
    (["--tls-port", 0, "--tls-certificate", "/nonexistent", "--tls-key", "/nonexistent"],
     "cannot read the certificate"),
    (["--tls-port", 0], "'tls-certificate' is missing"),
    (["--port", "none"], "'tls-port' is missing"),
])
def test_what_is_unsafe_does_not_start(tmp_path, flags, reason):
    ended = run_tally("serve", "--data", tmp_path / "data", *flags)
    assert ended.returncode != 0
    assert reason in ended.stderr, ended.stderr


def test_protected_mode_can_be_turned_off(start_tally):
    server = start_tally("--host", "127.0.0.2", "--protected-mode", "no", is_awaited=False)
    wait_until(lambda: "ready to accept" in server.log(), "the server to start")


# MARK: TLS

@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority, a server's certificate, a client's, and a stranger's."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], cwd=directory, check=True, capture_output=True)

    for name in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", 30, "-subj", f"/CN={name}")
    for name, signer in [("server", "ca"), ("server2", "ca"), ("client", "ca"), ("stranger", "other-ca")]:
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key",
                "-CAcreateserial", "-out", f"{name}.pem", "-days", 30, "-copy_extensions", "copy")
    return directory


@pytest.fixture
def start_tls(start_tally, authority, tmp_path):
    """Starts servers that listen with TLS; `tls_port` says where."""

    def start(*flags):
        certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
        certificate.write_bytes((authority / "server.pem").read_bytes())
        key.write_bytes((authority / "server.key").read_bytes())
        port = free_port()
        server = start_tally(
            "--tls-port", port, "--tls-certificate", certificate, "--tls-key", key, *flags)
        server.tls_port = port
        return server

    return start


def tls_client(server, authority, **options):
    return redis.Redis(
        host="localhost", port=server.tls_port, ssl=True, ssl_ca_certs=str(authority / "ca.pem"),
        retry=None, socket_timeout=20, **options)


def test_clients_with_tls(start_tls, authority):
    server = start_tls()
    with tls_client(server, authority) as client:
        assert client.incr("k") == 1
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(5000):
                pipeline.incr("k")
            assert pipeline.execute() == list(range(2, 5002))
        assert len(client.echo("x" * 900_000)) == 900_000
        assert len(client.mget([f"k{number}" for number in range(100_000)])) == 100_000
    shown = subprocess.run(
        ["redis-cli", "--tls", "--cacert", authority / "ca.pem", "-h", "localhost", "-p",
         str(server.tls_port), "GET", "k"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "5001"
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{server.tls_port}", "-CAfile",
         authority / "ca.pem", "-verify_return_error", "-quiet"], input="PING\r\nQUIT\r\n",
        capture_output=True, text=True, timeout=30, check=False)
    assert "+PONG" in shown.stdout
    # The port without TLS is there as well.
    assert server.client().get("k") == b"5001"


@pytest.mark.parametrize("version, is_accepted", [
    ("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_old_versions_are_refused(start_tls, authority, version, is_accepted):
    server = start_tls()
    shown = subprocess.run(
        ["openssl", "s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect",
         f"localhost:{server.tls_port}", "-quiet"], input="PING\r\nQUIT\r\n", capture_output=True,
        text=True, timeout=30, check=False)
    assert ("+PONG" in shown.stdout) == is_accepted, shown.stderr
    assert server.client().ping()


def test_client_certificates(start_tls, authority):
    server = start_tls("--tls-client-ca", authority / "ca.pem")
    with tls_client(
            server, authority, ssl_certfile=str(authority / "client.pem"),
            ssl_keyfile=str(authority / "client.key")) as client:
        assert client.incr("k") == 1
    for certificate in (None, "stranger"):
        options = {} if certificate is None else {
            "ssl_certfile": str(authority / f"{certificate}.pem"),
            "ssl_keyfile": str(authority / f"{certificate}.key")}
        with pytest.raises(redis.ConnectionError), tls_client(server, authority, **options) as client:
            client.incr("k")
    assert server.client().get("k") == b"1"


def test_a_client_that_does_not_know_the_authority_leaves(start_tls, authority):
    server = start_tls()
    with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        redis.Redis(
            host="localhost", port=server.tls_port, ssl=True, retry=None,
            ssl_ca_certs=str(authority / "other-ca.pem")).ping()


def test_certificates_are_reloaded(start_tls, authority, tmp_path):
    server = start_tls()

    def serial():
        return ssl.get_server_certificate(("localhost", server.tls_port))

    with tls_client(server, authority) as before:
        before.ping()
        first = serial()
        (tmp_path / "server.pem").write_bytes((authority / "server2.pem").read_bytes())
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: "does not go with the key" in server.log(), "the refusal", log=server.log)
        assert serial() == first
        (tmp_path / "server.key").write_bytes((authority / "server2.key").read_bytes())
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: serial() != first, "the new certificate", log=server.log)
        # Connections that there are go on.
        assert before.ping()
    with tls_client(server, authority) as after:
        assert after.ping()


def test_nonsense_on_the_port_with_tls(start_tls, authority):
    server = start_tls()
    for sent in [b"PING\r\n", b"\x16\x03\x01\xff\xff" + os.urandom(2000), os.urandom(5000), b""]:
        with socket.create_connection(("localhost", server.tls_port), timeout=30) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    with tls_client(server, authority) as client:
        assert client.ping()


def test_users_over_tls_alone(start_tally, authority, tmp_path, password_hash):
    port = free_port()
    server = start_tally(
        "--port", "none", "--tls-port", port, "--tls-certificate", authority / "server.pem",
        "--tls-key", authority / "server.key", "--users", users_file(tmp_path, password_hash),
        is_awaited=False)
    wait_until(lambda: "ready to accept" in server.log(), "the server to start", log=server.log)
    server.tls_port = port
    with tls_client(server, authority, username="likes", password=PASSWORD) as client:
        assert client.incr("like:1") == 1
    assert PASSWORD not in server.log()
    command_line = open(f"/proc/{server.process_id}/cmdline", "rb").read()
    assert PASSWORD.encode() not in command_line
