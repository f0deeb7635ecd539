"""`tally incr|get|mget|describe|watch|top|status` against a running server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from servers import free_port, tally_binary
from test_once import token
from test_security import PASSWORD, authority, password_hash, start_tls, users_file  # noqa: F401


def tool(server, *words, port=None, **options):
    command, *rest = words
    return subprocess.run(
        [tally_binary(), command, "--port", str(port or server.port), *map(str, rest)],
        capture_output=True, text=True, timeout=30, check=False, **options)


def shown(server, *words, **options):
    ended = tool(server, *words, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_counters(tally):
    assert shown(tally, "incr", "k") == "1"
    assert shown(tally, "incr", "k", "41") == "42"
    assert shown(tally, "incr", "k", "--", "-2") == "40"
    assert shown(tally, "get", "k") == "40"
    assert json.loads(shown(tally, "get", "k", "--json")) == {"key": "k", "value": 40}
    name = token()
    for _ in range(3):
        assert shown(tally, "incr", "k", "2", "--token", name) == "42"
    assert shown(tally, "mget", "k", "absent").splitlines() == ["k       42", "absent  -"]
    odd = 'a "b"\\\n'
    assert json.loads(shown(tally, "mget", "k", odd, "--json")) == {"k": 42, odd: None}


def test_families(tally):
    client = tally.client()
    for line in ["ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes suffix=l"]:
        client.execute_command(*line.split())
    assert shown(tally, "describe") == "post"
    assert json.loads(shown(tally, "describe", "--json")) == ["post"]
    assert shown(tally, "describe", "post").startswith("ADD COUNTER post")
    assert shown(tally, "incr", "post:1.l", 3) == "3"


def test_exit_codes(tally):
    absent = tool(tally, "get", "absent")
    assert (absent.returncode, absent.stdout) == (1, "")
    tally.client().set("k", 2**63 - 1)
    refused = tool(tally, "incr", "k")
    assert refused.returncode == 2 and "overflow" in refused.stderr
    assert tool(tally, "get", "k", port=free_port()).returncode == 69
    assert tool(tally, "incr", "k", "x").returncode == 64
    assert tool(tally, "describe", "nosuch").returncode == 2


def test_observers(tally):
    tally.client().set("k", 7)
    assert "durability" in shown(tally, "status") and "keys=1" in shown(tally, "status")
    assert json.loads(shown(tally, "status", "--json"))["server_name"] == "tally"
    lines = shown(tally, "watch", "k", "x", "--count", 3, "--interval", 0.05).splitlines()
    assert lines == ["k 7 (+0)   x - (+0)"] * 3
    rows = [json.loads(line) for line in shown(
        tally, "watch", "k", "--count", 2, "--interval", 0.05, "--json").splitlines()]
    assert rows == [{"k": {"value": 7, "change": 0}}] * 2
    lines = shown(tally, "top", "--count", 2, "--interval", 0.05).splitlines()
    assert len(lines) == 3 and "commands/s" in lines[0]
    rows = [json.loads(line) for line in shown(
        tally, "top", "--count", 2, "--interval", 0.05, "--json").splitlines()]
    assert len(rows) == 2 and rows[0]["keys"] == 1


def test_hot_keys(tally):
    client = tally.client()
    for _ in range(20):
        pipeline = client.pipeline(transaction=False)
        for number in range(500):
            pipeline.incr("hot")
            pipeline.incr(f"cold:{number}")
        pipeline.execute()
    header, first = shown(tally, "hotkeys", "--count", 1).splitlines()
    assert header.split() == ["KEY", "OPERATIONS/S", "SHARE"]
    assert first.split()[0] == "hot" and first.endswith("%")
    (found,) = json.loads(shown(tally, "hotkeys", "--count", 1, "--json"))
    assert found["key"] == "hot" and found["operations_per_second"] > 10


def test_users_and_tls(start_tls, start_tally, tmp_path, password_hash, authority):
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    server = start_tls("--users", users_file(tmp_path, password_hash))
    assert tool(server, "get", "like:1").returncode == 2
    who = ["--user", "likes", "--password-file", secret]
    assert shown(server, "incr", "like:1", *who) == "1"
    assert shown(server, "incr", "like:1", "--user", "likes", "--password-file", "-", input=PASSWORD + "\n") == "2"
    assert tool(server, "incr", "view:1", *who).returncode == 2
    secure = ["--host", "localhost", "--tls", "--cacert", authority / "ca.pem"]
    assert shown(server, "incr", "like:1", *who, *secure, port=server.tls_port) == "3"
    assert tool(
        server, "get", "like:1", "--tls", "--host", "localhost", "--cacert", authority / "other-ca.pem",
        port=server.tls_port).returncode == 69


def test_the_man_page_is_that_of_the_program():
    root = Path(__file__).parents[2]
    made = subprocess.run(
        [sys.executable, root / "Scripts/make-manual.py", tally_binary()], capture_output=True, text=True, check=True)
    assert made.stdout == (root / "docs/man/tally.1").read_text(), "make manual"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell):
    made = subprocess.run(
        [tally_binary(), "--generate-completion-script", shell], capture_output=True, text=True, check=True)
    assert "mget" in made.stdout and len(made.stdout) > 1000
