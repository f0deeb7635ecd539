"""Flags, environment and file: each is read, checked, and wins over the next."""

import re
import subprocess

import pytest
import redis

from protocol import RawConnection
from servers import free_port, run_tally, tally_binary, tally_environment, wait_until


@pytest.fixture
def start_plain(tmp_path):
    """Starts the program with exactly the given arguments; returns (process, log path)."""
    processes = []

    def start(*arguments, environment=None):
        log = tmp_path / f"log{len(processes)}"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [tally_binary(), "serve", *map(str, arguments)], stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, env=tally_environment(environment))
        processes.append(process)
        return process, log

    yield start
    for process in processes:
        if process.poll() is None:
            process.terminate()
        assert process.wait(60) == 0


def port_of(process, log):
    """The port that the server says it listens on."""
    def find():
        assert process.poll() is None, log.read_text()
        return re.search(r"127\.0\.0\.1:(\d+).*ready to accept", log.read_text())

    return int(wait_until(find, "the server to be ready").group(1))


def settings_of(port):
    client = redis.Redis(port=port)
    return client.config_get("*")


def test_flags(start_tally):
    server = start_tally(
        "--threads", 2, "--durability", "interval=250", "--clients-max", 77,
        "--idle-seconds-max", 3600, "--memory-limit", "64mb", "--partitions", 16,
        "--log-level", "debug", "--host", "127.0.0.1")
    client = server.client()
    settings = client.config_get("*")
    assert settings["io-threads"] == "2" and settings["durability"] == "interval=250"
    assert settings["maxclients"] == "77" and settings["timeout"] == "3600"
    assert settings["maxmemory"] == str(64 << 20) and settings["dir"] == str(server.directory)
    assert settings["port"] == str(server.port) and settings["bind"] == "127.0.0.1"
    assert client.info("server")["partitions"] == 16


def test_a_port_that_the_system_chooses(start_plain, tmp_path):
    process, log = start_plain("--data", tmp_path / "data", "--port", 0)
    port = port_of(process, log)
    assert port > 0
    with RawConnection(port) as connection:
        assert connection.call("PING") == b"+PONG\r\n"
        assert b"tcp_port:%d\r\n" % port in connection.call("INFO", "server")
        assert b"%d" % port in connection.call("CONFIG", "GET", "port")


def test_environment(start_plain, tmp_path):
    process, log = start_plain(environment={
        "TALLY_DATA": str(tmp_path / "data"), "TALLY_PORT": "0", "TALLY_THREADS": "2",
        "TALLY_CLIENTS_MAX": "55", "TALLY_IDLE_SECONDS_MAX": "100", "TALLY_DURABILITY": "none",
        "TALLY_MEMORY_LIMIT": "16MB", "TALLY_LOG_LEVEL": "info", "TALLY_PARTITIONS": "4"})
    settings = settings_of(port_of(process, log))
    assert settings["io-threads"] == "2" and settings["maxclients"] == "55"
    assert settings["timeout"] == "100" and settings["durability"] == "none"
    assert settings["maxmemory"] == str(16 << 20) and settings["dir"] == str(tmp_path / "data")


FILE = """
# a comment
data: {data}
port: 0
threads: 2
clients-max: 44
durability: "interval=5"
memory-limit: 8mb
"""


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_file(start_plain, tmp_path, way):
    file = tmp_path / "tally.yaml"
    file.write_text(FILE.format(data=tmp_path / "data"))
    if way == "flag":
        process, log = start_plain("--config", file)
    else:
        process, log = start_plain(environment={"TALLY_CONFIG": str(file)})
    settings = settings_of(port_of(process, log))
    assert settings["io-threads"] == "2" and settings["maxclients"] == "44"
    assert settings["durability"] == "interval=5" and settings["maxmemory"] == str(8 << 20)


def test_flags_win_over_environment_wins_over_file(start_plain, tmp_path):
    file = tmp_path / "tally.yaml"
    file.write_text(
        f"data: {tmp_path / 'data'}\nport: 1\nclients-max: 11\nidle-seconds-max: 11\n"
        "memory-limit: 11mb\n")
    process, log = start_plain(
        "--config", file, "--clients-max", 33, "--port", 0,
        environment={
            "TALLY_CLIENTS_MAX": "22", "TALLY_IDLE_SECONDS_MAX": "22", "TALLY_PORT": "2",
            "TALLY_CONFIG": str(tmp_path / "nosuch.yaml")})
    settings = settings_of(port_of(process, log))
    assert settings["maxclients"] == "33", "a flag wins"
    assert settings["timeout"] == "22", "the environment wins over the file"
    assert settings["maxmemory"] == str(11 << 20), "the file counts where nothing else is said"


def refused(*arguments, environment=None):
    """What the program says when it refuses its settings."""
    result = run_tally("serve", *arguments, environment=environment, timeout=30)
    assert result.returncode != 0
    return result.stdout + result.stderr


# A setting, values that it refuses, and what the refusal must say.
REFUSED = [
    ("port", ["-1", "65536", "abc", "", "1.5", "99999999999999999999"], "0...65535"),
    ("threads", ["0", "257", "-1", "two"], "1...256"),
    ("clients-max", ["0", "1000001", "many"], "1...1000000"),
    ("idle-seconds-max", ["-1", "31536001", "1s"], "0...31536000"),
    ("partitions", ["0", "3", "2048", "-2", "x"], "a power of two in 1...1024"),
    ("durability", ["sometimes", "interval", "interval=", "interval=0", "interval=60001",
                    "Always", "interval=5ms"], "always, interval=MS with MS in 1...60000, none"),
    ("checkpoint-bytes", ["1000", "abc", "0"], "at least 1mb"),
    ("scrub-seconds", ["-1", "x"], "0...31536000"),
    ("checkpoint-seconds", ["0", "86401", "x"], "1...86400"),
    ("memory-limit", ["1000", "abc", "-1", "1048575", "5tb"], "at least 1mb"),
    ("log-level", ["loud", "INFO", ""], "trace, debug, info, notice, warning, error, critical"),
    ("host", [""], "an address or a host name"),
    ("engine", ["other"], "tally, null"),
]


@pytest.mark.parametrize("way", ["flag", "environment", "file"])
@pytest.mark.parametrize("name, values, allowed", REFUSED, ids=[name for name, *_ in REFUSED])
def test_values_out_of_range_are_refused(tmp_path, name, values, allowed, way):
    for value in values:
        arguments = ["--data", tmp_path / "data"]
        environment = {}
        if way == "flag":
            arguments.append(f"--{name}={value}")
        elif way == "environment":
            environment["TALLY_" + name.upper().replace("-", "_")] = value
        else:
            file = tmp_path / "tally.yaml"
            file.write_text(f"{name}: '{value}'\n")
            arguments += ["--config", file]
        said = refused(*arguments, environment=environment)
        if way == "flag" and value == "":
            assert f"--{name}" in said, said
            continue
        assert f"'{name}'" in said and allowed in said, said
        assert f"'{value}'" in said, said
        assert not (tmp_path / "data").exists(), "nothing is touched before all is checked"


def test_unknown_settings_are_refused(tmp_path):
    data = ["--data", tmp_path / "data"]
    assert "nosuch" in refused(*data, "--nosuch", "1")
    said = refused(*data, environment={"TALLY_NOSUCH": "1"})
    assert "unknown setting 'TALLY_NOSUCH' in the environment" in said and "clients-max" in said
    file = tmp_path / "tally.yaml"
    file.write_text("port: 0\nnosuch: 1\n")
    said = refused(*data, "--config", file)
    assert f"unknown setting 'nosuch' in {file}" in said and "clients-max" in said
    assert "extra" in refused(*data, "extra")


@pytest.mark.parametrize("text, reason", [
    ("- port\n- 0\n", "not a list of 'name: value' lines"), ("port: [1, 2]\n", "'port'"),
    ("port: {a: 1}\n", "'port'"), ("port: \"0\n", ""), ("just words\n", "not a list"),
    ("port: 0\nport: 1\n", ""),
])
def test_files_that_are_not_settings_are_refused(tmp_path, text, reason):
    file = tmp_path / "tally.yaml"
    file.write_text(text)
    said = refused("--data", tmp_path / "data", "--config", file)
    assert str(file) in said and reason in said, said


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n# nothing\n"])
def test_a_file_that_says_nothing_is_none_the_worse(start_plain, tmp_path, text):
    file = tmp_path / "tally.yaml"
    file.write_text(text)
    process, log = start_plain("--data", tmp_path / "data", "--port", 0, "--config", file)
    assert port_of(process, log) > 0


def test_the_null_engine_warns(start_plain, tmp_path):
    process, log = start_plain("--data", tmp_path / "data", "--port", 0, "--engine", "null")
    assert port_of(process, log) > 0
    assert "nothing is counted" in log.read_text()


def test_a_missing_file_is_refused(tmp_path):
    file = tmp_path / "nosuch.yaml"
    assert str(file) in refused("--data", tmp_path / "data", "--config", file)
    assert str(file) in refused(
        "--data", tmp_path / "data", environment={"TALLY_CONFIG": str(file)})


def test_a_missing_data_directory_is_refused():
    said = refused()
    for part in ["'data'", "--data", "TALLY_DATA"]:
        assert part in said, said
    assert "'data'" in refused("--data", "")


def test_an_impossible_data_directory_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in refused("--data", file, "--port", free_port())
    deep = tmp_path / "nosuch" / "deeper"
    assert str(deep) in refused("--data", deep, "--port", free_port())


def test_an_occupied_port_is_refused(tally, tmp_path):
    assert "cannot serve" in refused("--data", tmp_path / "other", "--port", tally.port)
    # Nothing is left that would keep the next start from working.
    assert "OK" in run_tally("journal", "verify", tmp_path / "other").stdout


def test_help_and_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run_tally("--version").stdout)
    said = run_tally("serve", "--help").stdout
    for name, *_ in REFUSED:
        assert (f"--{name} " in said) == (name != "engine"), name


def test_partitions_of_an_old_directory_are_kept(start_tally):
    server = start_tally("--partitions", 8)
    server.client().incr("a")
    assert server.stop() == 0
    again = start_tally("--partitions", 32, directory=server.directory)
    assert again.client().info("server")["partitions"] == 8
    assert again.client().get("a") == b"1"


def test_memory_limit(start_tally):
    """The limit can be changed while the server runs."""
    client = start_tally("--memory-limit", "1mb").client()
    assert client.config_get("maxmemory") == {"maxmemory": str(1 << 20)}
    assert client.config_set("maxmemory", "100mb")
    assert client.incr("new") == 1
    assert client.config_get("maxmemory") == {"maxmemory": str(100 << 20)}
    assert client.info("memory")["maxmemory"] == 100 << 20
