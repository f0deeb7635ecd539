"""`tally import`: many records at once, all or none."""

import random
import struct
import subprocess
import threading

import pytest

from servers import run_tally, tally_binary, wait_until


def declare(client, *lines):
    for line in lines:
        assert client.execute_command(*line.split()) == b"OK"


POST = (
    "ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes suffix=l max=32",
    "ADD COLUMN post views suffix=v max=32")
USER = (
    "ADD COUNTER user", "ADD COLUMN user name primarykey type=string",
    "ADD COLUMN user followers min=-100 default=3", "ADD COLUMN user posts")


def run_import(server, family, path, *flags):
    return run_tally(
        "import", "--port", server.port, "--family", family, *flags, path)


def imported(server, family, path, *flags):
    result = run_import(server, family, path, *flags)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def write_csv(path, header, rows, separator=","):
    path.write_text("\n".join(separator.join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def test_csv_and_what_is_wrong_with_it(tally, tmp_path):
    client = tally.client()
    declare(client, *POST)
    client.execute_command("SET", "post", 2, 20, 20)
    client.execute_command("SET", "post", 9, 90, 90)
    path = write_csv(tmp_path / "posts.csv", ["id", "views", "likes"], [
        [1, 2, 3], [2, 0, 0], ["x", 1, 1], [3, 1], [4, 5, 1 << 32], [1, 7, 8], [5, -1, 0],
        [6, 1, 2, 3], [(1 << 64) - 1, 1, 0], [0, 1, 1], ["", 1, 1], [7, "1.5", 0]])
    result = run_import(tally, "post", path)
    assert result.returncode == 0
    assert "1 lines of defaults, 7 rejected" in result.stdout
    for text in [
            "line 4: 'x' is no key", "line 5: 2 fields instead of 3",
            "line 6: 4294967296 is out of column 'likes', 0 to 4294967295",
            "line 8: -1 is out of column 'views'", "line 9: more than 3 fields",
            "line 12: '' is no key", "line 13: '1.5' is not a 64-bit integer"]:
        assert text in result.stderr
    assert client.execute_command("GET", "post", 0, 1, 2, 3, 9, (1 << 64) - 1) == [
        [1, 1], [8, 7], [20, 20], [0, 0], [90, 90], [0, 1]]
    assert run_import(tally, "post", path, "--strict").returncode == 1
    assert client.execute_command("INCR", "post", "1.l") == 9


@pytest.mark.parametrize("text, message", [
    ("name,likes\n1,2\n", "must begin with the key's name, 'id', not 'name'"),
    ("id,nosuch\n1,2\n", "has no column 'nosuch'"),
    ("id,likes,likes\n1,2,3\n", "names 'likes' twice"),
])
def test_strange_headers_import_nothing(tally, tmp_path, text, message):
    declare(tally.client(), *POST)
    path = tmp_path / "posts.csv"
    path.write_text(text)
    result = run_import(tally, "post", path)
    assert result.returncode == 1 and message in result.stderr
    assert tally.client().dbsize() == 0
    assert not list(tally.directory.glob("import-*"))


def test_what_cannot_be_imported(tally, tmp_path):
    client = tally.client()
    path = write_csv(tmp_path / "posts.csv", ["id", "likes"], [[1, 2]])
    assert "no such counter 'post'" in run_import(tally, "post", path).stderr
    declare(client, "ADD COUNTER post")
    assert "no key or no columns" in run_import(tally, "post", path).stderr
    declare(client, "ADD COLUMN post id primarykey", "ADD COLUMN post likes")
    assert "cannot open" in run_import(tally, "post", tmp_path / "nosuch.csv").stderr
    declare(
        client, "ADD COUNTER feed deleted=final", "ADD COLUMN feed id primarykey",
        "ADD COLUMN feed likes suffix=l")
    imported(tally, "feed", path)
    assert "deletions are final" in run_import(tally, "feed", path).stderr
    wait_until(lambda: not list(tally.directory.glob("import-*")), "tidying")


@pytest.mark.parametrize("order", ["sorted", "shuffled", "repeated"])
def test_binary_records_over_what_is_there(start_tally, tmp_path, order):
    server = start_tally("--partitions", 4)
    client = server.client()
    declare(client, *POST)
    generator = random.Random(3)
    expected = {}
    pipeline = client.pipeline(transaction=False)
    for _ in range(500):
        key = generator.randrange(200_000)
        pipeline.execute_command("SET", "post", key, key % 7, 1)
        expected[key] = (key % 7, 1)
    pipeline.execute()
    client.bgsave()
    keys = sorted(generator.sample(range(200_000), 150_000))
    if order != "sorted":
        generator.shuffle(keys)
    if order == "repeated":
        keys += keys[:50_000]
    path = tmp_path / "posts.bin"
    with open(path, "wb") as file:
        for number, key in enumerate(keys):
            values = (number % 3, key % 11 + 1)
            file.write(struct.pack("<QII", key, *values))
            expected[key] = values
    imported(server, "post", path)

    def check():
        some = generator.sample(sorted(expected), 3000)
        found = client.execute_command("GET", "post", *some)
        assert [tuple(row) for row in found] == [expected[key] for key in some]
    check()
    for key in generator.sample(sorted(expected), 100):
        client.execute_command("INCR", "post", f"{key}.l")
        expected[key] = (expected[key][0] + 1, expected[key][1])
    check()
    # Killed at once: the journal names the import; then from the checkpoint.
    server.kill()
    server.start().wait_until_ready()
    check()
    client.bgsave()
    wait_until(lambda: not list(server.directory.glob("import-*")), "a checkpoint")
    assert client.dbsize() == len(expected)
    server.kill()
    server.start().wait_until_ready()
    check()
    server.stop()
    assert run_tally("check", server.directory).returncode == 0


def test_string_keys(tally, tmp_path):
    client = tally.client()
    declare(client, *USER)
    rows = [[f"user:{number}.x{'y' * (number % 50)}", number - 100, number] for number in range(5000)]
    random.Random(5).shuffle(rows)
    path = write_csv(tmp_path / "users.tsv", ["name", "followers", "posts"], rows, "\t")
    imported(tally, "user", path)
    assert client.dbsize() == len(rows)
    for name, followers, posts in random.Random(6).sample(rows, 300):
        assert client.execute_command("GET", "user", name) == [followers, posts]
        assert client.hvals(f"user:{name}") == [b"%d" % followers, b"%d" % posts]
    tally.restart()
    assert client.dbsize() == len(rows)


def test_imports_while_clients_write(start_tally, tmp_path):
    """Each increment is before or after the import, and none is lost behind it."""
    server = start_tally("--threads", 2)
    client = server.client()
    declare(client, *POST)
    path = write_csv(
        tmp_path / "posts.csv", ["id", "views"], [[number, 1000] for number in range(20_000)])
    stop = threading.Event()
    sent = []

    def increment():
        own = server.client()
        count = 0
        while not stop.is_set():
            own.execute_command("INCR", "post", "7.v")
            count += 1
        sent.append(count)

    threads = [threading.Thread(target=increment, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        imported(server, "post", path)
        before = client.execute_command("GET", "post", "7.v")
        assert before >= 1000
    stop.set()
    for thread in threads:
        thread.join()
    last = client.execute_command("GET", "post", "7.v")
    assert 1000 <= last <= 1000 + sum(sent)
    assert client.execute_command("GET", "post", "8.v") == 1000
    server.kill()
    server.start().wait_until_ready()
    assert client.execute_command("GET", "post", "7.v") == last


def test_an_interrupted_import_leaves_nothing(start_tally, tmp_path):
    server = start_tally("--partitions", 1)
    client = server.client()
    declare(client, *POST)
    process = subprocess.Popen(
        [tally_binary(), "import", "--port", str(server.port), "--family", "post", "--format",
         "records", "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for key in range(400_000):
        # Descending, so that runs are closed and written.
        process.stdin.write(struct.pack("<QII", 5_000_000 - key * 5, 1, 1))
    process.stdin.flush()
    wait_until(lambda: list(server.directory.glob("import-*")) or process.poll(), "files")
    process.kill()
    process.wait()
    assert client.dbsize() == 0
    server.restart()
    assert not list(server.directory.glob("import-*"))
    assert client.dbsize() == 0
