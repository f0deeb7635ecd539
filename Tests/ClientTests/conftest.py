"""Fixtures: servers that are started for a test and ended by their own process ids."""

import pytest

from servers import RedisServer, TallyServer, tally_binary


def pytest_configure(config):
    try:
        tally_binary()
    except RuntimeError as error:
        pytest.exit(str(error), returncode=4)


def end(servers):
    """Ends what still runs; a Tally that does not end cleanly fails its test."""
    failed = []
    for server in servers:
        if server.is_running:
            code = server.stop()
            if code != 0:
                failed.append(f"the server ended with {code}\n{server.log()}")
    assert not failed, failed


@pytest.fixture
def start_tally(tmp_path):
    """Starts Tally servers: `start_tally("--threads", 2)`, each with a fresh directory."""
    servers = []

    def start(*flags, directory=None, environment=None, is_awaited=True):
        chosen = directory or tmp_path / f"data{len(servers)}"
        server = TallyServer(chosen, *flags, environment=environment)
        servers.append(server)
        server.start()
        return server.wait_until_ready() if is_awaited else server

    yield start
    end(servers)


@pytest.fixture
def tally(start_tally):
    """A Tally server with nothing in it."""
    return start_tally()


@pytest.fixture(scope="module")
def shared_tally(tmp_path_factory):
    """One Tally server for all tests of a file."""
    server = TallyServer(tmp_path_factory.mktemp("shared") / "data")
    server.start().wait_until_ready()
    yield server
    end([server])


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    """The real redis-server, for all tests of a file."""
    server = RedisServer(tmp_path_factory.mktemp("redis") / "data")
    server.start().wait_until_ready()
    yield server
    end([server])
