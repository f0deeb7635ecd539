"""The HTTP interface: counters, families, administration, metrics, health, and its description."""

import base64
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from protocol import RawConnection
from servers import free_port, wait_until
from test_once import token
from test_security import PASSWORD, authority, password_hash, users_file  # noqa: F401


class Web:
    """Requests to one server, on one connection."""

    def __init__(self, port, user=None, password=PASSWORD):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.headers = {}
        if user:
            self.headers["Authorization"] = "Basic " + base64.b64encode(
                f"{user}:{password}".encode()).decode()

    def call(self, method, path, body=None, headers=None):
        """Returns status and body: JSON if it is."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, data, {**self.headers, **(headers or {})})
        response = self.connection.getresponse()
        text = response.read()
        kind = response.headers.get("Content-Type", "")
        if response.status >= 400:
            assert kind == "application/problem+json"
            problem = json.loads(text)
            assert problem["status"] == response.status and problem["title"] and problem["detail"]
            return response.status, problem
        return response.status, json.loads(text) if kind == "application/json" else text.decode()

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.call("POST", path, body, **options)


def start_web(start_tally, *flags, **options):
    port = free_port()
    server = start_tally("--http-port", port, *flags, **options)
    wait_until(lambda: "ready to accept requests" in server.log(), "the interface", log=server.log)
    server.http_port = port
    return server


@pytest.fixture
def web(start_tally):
    server = start_web(start_tally)
    web = Web(server.http_port)
    web.server = server
    return web


def quoted(key):
    return urllib.parse.quote(key, safe="")


@pytest.mark.parametrize("key", ["k", "like:1", "a/b c", "é%20", "{a}b", "?x=1&y#", "🐘", "%", "."])
def test_one_counter(web, key):
    path = f"/v1/counters/{quoted(key)}"
    if key == ".":
        path = "/v1/counters/%2E"
    assert web.get(path)[0] == 404
    assert web.post(f"{path}/increment", {}) == (200, {"key": key, "value": 1})
    assert web.post(f"{path}/increment", {"delta": -5}) == (200, {"key": key, "value": -4})
    assert web.get(path) == (200, {"key": key, "value": -4})
    assert web.server.client().get(key) == b"-4"
    assert web.call("PUT", path, {"value": 2**63 - 1}) == (200, {"key": key, "value": 2**63 - 1})
    assert web.post(f"{path}/increment", {"delta": 1})[0] == 409
    assert web.call("DELETE", path)[0] == 204
    assert web.call("DELETE", path)[0] == 404


@pytest.mark.parametrize("method, path, body, status", [
    ("POST", "/v1/counters/k/increment", b"", 400), ("POST", "/v1/counters/k/increment", b"[]", 400),
    ("POST", "/v1/counters/k/increment", {"delta": "1"}, 400),
    ("POST", "/v1/counters/k/increment", {"delta": 1.5}, 400),
    ("POST", "/v1/counters/k/increment", {"delta": 2**63}, 400), ("PUT", "/v1/counters/k", {}, 400),
    ("GET", "/v1/counters/%FF", None, 400), ("GET", "/v1/counters/%4", None, 400),
    ("GET", "/v1/counters/" + "k" * 4097, None, 400), ("GET", "/v1/nothing", None, 404),
    ("PATCH", "/v1/counters/k", None, 405), ("POST", "/v1/batch/get", {"keys": []}, 400),
    ("POST", "/v1/batch/get", {"keys": ["k"] * 10_001}, 400),
    ("POST", "/v1/batch/get", b" " * 1_100_000 + b"{}", 413),
    ("GET", "/v1/families/none", None, 404), ("GET", "/v1/families/none/records/1", None, 404),
    ("POST", "/v1/admin/backup", {"path": "relative"}, 400),
])
def test_what_is_refused(web, method, path, body, status):
    found, problem = web.call(method, path, body)
    assert found == status, problem
    assert web.server.client().dbsize() == 0


def test_many_counters(web):
    found = web.post("/v1/batch/increment", {"increments": [{"key": "a"}, {"key": "b", "delta": 7}, {"key": "a"}]})
    assert found == (200, {"counters": [
        {"key": "a", "value": 1}, {"key": "b", "value": 7}, {"key": "a", "value": 2}]})
    assert web.post("/v1/batch/get", {"keys": ["b", "x", "a"]}) == (200, {"counters": [
        {"key": "b", "value": 7}, {"key": "x", "value": None}, {"key": "a", "value": 2}]})


def test_idempotency_keys(web):
    first = {"Idempotency-Key": token()}
    for _ in range(3):
        assert web.post("/v1/counters/k/increment", {"delta": 5}, headers=first)[1]["value"] == 5
    assert web.post("/v1/counters/k/increment", {"delta": 6}, headers=first)[0] == 422
    second = {"Idempotency-Key": f'"{token()}"'}
    body = {"increments": [{"key": "k", "delta": 1}, {"key": "l", "delta": 1}]}
    for _ in range(3):
        counters = web.post("/v1/batch/increment", body, headers=second)[1]["counters"]
        assert [each["value"] for each in counters] == [6, 1]
    assert web.post("/v1/counters/k/increment", {}, headers={"Idempotency-Key": "mine"})[0] == 400
    old = {"Idempotency-Key": token(milliseconds=1_000_000_000_000)}
    assert web.post("/v1/counters/k/increment", {}, headers=old)[0] == 409
    # The same key by the other interface.
    client = web.server.client()
    assert client.execute_command("ONCE", first["Idempotency-Key"], "INCRBY", "k", 5) == 5


def test_families(web):
    client = web.server.client()
    for line in ["ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes suffix=l max=8",
                 "ADD COLUMN post views suffix=v"]:
        client.execute_command(*line.split())
    assert web.get("/v1/families") == (200, {"families": ["post"]})
    assert web.get("/v1/families/post")[1]["declaration"][0].startswith("ADD COUNTER post")
    path = "/v1/families/post/records/1234"
    assert web.post(f"{path}/increment", {"column": "likes", "delta": 3}) == (
        200, {"family": "post", "key": "1234", "column": "likes", "value": 3})
    assert web.call("PUT", path, {"columns": {"views": 9}})[1]["columns"] == {"likes": 3, "views": 9}
    assert web.get(path)[1]["columns"] == {"likes": 3, "views": 9}
    assert web.post(f"{path}/increment", {"column": "likes", "delta": 300})[0] == 409
    assert web.post(f"{path}/increment", {"column": "shares"})[0] == 404
    records = web.post("/v1/families/post/batch/get", {"keys": ["1234", "5"]})[1]["records"]
    assert [each["columns"] for each in records] == [{"likes": 3, "views": 9}, {"likes": 0, "views": 0}] or \
        records[1]["columns"] == {}
    assert web.call("DELETE", path)[0] == 204
    assert web.call("DELETE", path)[0] == 404
    assert web.get("/v1/families/post/records/x")[0] == 404


def test_administration(web, tmp_path):
    web.post("/v1/counters/k/increment", {})
    status = web.get("/v1/admin/status")[1]
    assert status["server"]["server_name"] == "tally" and status["keyspace"]["db0"].startswith("keys=1,")
    partitions = web.get("/v1/admin/partitions")[1]["partitions"]
    assert sum(each["keys"] for each in partitions) == 1 and len(partitions) == 64
    assert web.post("/v1/admin/checkpoint")[0] == 202
    assert web.post("/v1/admin/backup", {"path": str(tmp_path / "backup")})[0] == 202
    wait_until(lambda: web.get("/v1/admin/backup")[1]["status"] == "done", "the backup")


def metrics(web):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(web.get("/metrics")[1])
        for sample in family.samples}


def test_metrics_are_what_happened(web):
    client = web.server.client()
    for _ in range(10):
        client.incrby("k", 1)
    with pytest.raises(redis.ResponseError):
        client.set("k", "x")
    assert web.get("/v1/counters/k")[0] == 200 and web.get("/v1/counters/none")[0] == web.get("/v1/none")[0] == 404
    found = metrics(web)
    assert found["tally_http_request_seconds_count", "/v1/counters/{key}", "GET", "200"] == 1
    assert found["tally_http_request_seconds_count", "/v1/counters/{key}", "GET", "404"] == 1
    assert found["tally_http_request_seconds_count", "NotFound", "GET", "404"] == 1
    assert found["tally_http_active_requests",] == 1
    assert found["tally_command_calls_total", "incrby"] == 10
    assert found["tally_errors_total", "ERR"] == 1
    assert found["tally_keys",] == 1
    assert found["tally_connections",] == 1
    assert found["tally_reply_seconds_count",] >= 10
    assert found["tally_reply_seconds_bucket", "+Inf"] == found["tally_reply_seconds_count",]
    assert found["tally_journal_write_seconds_count",] >= 1
    assert found["process_resident_memory_bytes",] > 1 << 20
    client.config_resetstat()
    client.incrby("k", 1)
    again = metrics(web)
    # Totals never fall.
    assert again["tally_command_calls_total", "incrby"] == 11
    client.bgsave()
    wait_until(lambda: metrics(web)["tally_checkpoint_seconds_count",] >= 1, "the checkpoint")
    text = web.get("/metrics")[1]
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert names == set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    assert len(names) > 35


def test_health(web):
    assert web.get("/health/live")[0] == 200
    # A connection may be answered a moment before the server says that it is ready.
    wait_until(lambda: web.get("/health/ready")[0] == 200, "the server to say that it is ready")
    web.server.send_signal(signal.SIGTERM)
    assert web.server.wait() == 0


def test_users(start_tally, tmp_path, password_hash):
    server = start_web(start_tally, "--users", users_file(tmp_path, password_hash))
    stranger = Web(server.http_port)
    assert stranger.get("/health/live")[0] == 200 and stranger.get("/openapi.json")[0] == 200
    for path in ["/metrics", "/v1/counters/k", "/v1/families", "/v1/admin/status", "/v1/admin/partitions"]:
        assert stranger.get(path)[0] == 401
    assert Web(server.http_port, "likes", "wrong").get("/v1/counters/like:1")[0] == 401
    likes = Web(server.http_port, "likes")
    assert likes.post("/v1/counters/like:1/increment", {})[1]["value"] == 1
    assert likes.post("/v1/counters/view:1/increment", {})[0] == 403
    assert likes.post("/v1/batch/increment", {"increments": [{"key": "like:1"}, {"key": "x"}]})[0] == 403
    assert likes.get("/v1/counters/like:1")[1]["value"] == 1
    assert likes.get("/v1/admin/status")[0] == 403
    reader = Web(server.http_port, "reader")
    assert reader.get("/metrics")[0] == 200 and reader.get("/v1/counters/like:1")[0] == 200
    assert reader.post("/v1/counters/like:1/increment", {})[0] == 403
    admin = Web(server.http_port, "admin")
    assert admin.get("/v1/admin/status")[0] == 200 and admin.post("/v1/admin/checkpoint")[0] == 202
    assert admin.get("/v1/counters/like:1")[0] == 403
    assert PASSWORD not in server.log()
    assert "a login failed" in server.log()


def test_https(start_tally, authority):
    port = free_port()
    server = start_tally(
        "--https-port", port, "--tls-certificate", authority / "server.pem", "--tls-key",
        authority / "server.key")
    wait_until(lambda: "ready to accept requests" in server.log(), "the interface", log=server.log)
    shown = subprocess.run(
        ["curl", "-sS", "--cacert", authority / "ca.pem", "-d", "{}",
         f"https://localhost:{port}/v1/counters/k/increment"], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout) == {"key": "k", "value": 1}


def test_counts_survive_a_crash(start_tally):
    """What was replied to is on disk."""
    server = start_web(start_tally)
    threads, counted = [], []

    def work():
        web = Web(server.http_port)
        done = 0
        try:
            while True:
                assert web.post("/v1/counters/k/increment", {})[0] == 200
                done += 1
        except (OSError, http.client.HTTPException):
            counted.append(done)

    for _ in range(4):
        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
    time.sleep(1)
    server.kill()
    for thread in threads:
        thread.join()
    server.start().wait_until_ready()
    total = int(server.client().get("k"))
    assert sum(counted) <= total <= sum(counted) + 4
    assert sum(counted) > 50


def test_schemathesis_finds_nothing(web, tmp_path):
    """What is served is what the document says, whatever is sent."""
    client = web.server.client()
    for line in ["ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes suffix=l"]:
        client.execute_command(*line.split())
    client.set("k", 1)
    examples = os.environ.get("TALLY_HTTP_EXAMPLES", "25")
    ended = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run",
         f"http://127.0.0.1:{web.server.http_port}/openapi.json", "--max-examples", examples,
         "--seed", "1", "--exclude-operation-id", "makeBackup",
         # It does not know that an increment makes a deleted counter anew.
         "--exclude-checks", "use_after_free"],
        capture_output=True, text=True, timeout=600, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stdout[-6000:]
