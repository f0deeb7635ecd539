"""Starts and ends the servers under test, each by its own process id."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 60


def tally_binary():
    """The program under test: TALLY_BINARY, or the release build of this repository."""
    default = REPOSITORY / ".build" / "release" / "tally"
    binary = Path(os.environ.get("TALLY_BINARY") or default)
    if not binary.is_file():
        raise RuntimeError(f"no program at {binary}: build it or set TALLY_BINARY")
    return str(binary)


def tool(name):
    """The path of a program that the tests need."""
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed, and these tests need it")
    return path


def free_port():
    """A loopback port that nothing uses, outside of what the system hands to connections."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def tally_environment(settings=None):
    """This process's environment with `settings` as its only TALLY_ variables.

    Tally refuses variables of that prefix that it does not know, and the tests have some.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TALLY_")
    }
    environment.update(settings or {})
    return environment


def run_tally(*arguments, environment=None, timeout=60):
    """Runs the program to its end and returns what `subprocess.run` does."""
    return subprocess.run(
        [tally_binary(), *map(str, arguments)], env=tally_environment(environment),
        capture_output=True, text=True, timeout=timeout, check=False)


def wait_until(condition, what, seconds=30, log=lambda: ""):
    """Waits until `condition()` is true and returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}\n{log()}")
        time.sleep(0.005)
    return value


class Server:
    """One server process."""

    def __init__(self, command, port, directory, environment=None, log_name="server.log"):
        self.command = [str(part) for part in command]
        self.port = port
        self.directory = Path(directory)
        self.environment = environment
        self.log_path = self.directory.parent / f"{self.directory.name}-{log_name}"
        self.process = None

    def start(self):
        """Starts the process without waiting for anything."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=self.environment, start_new_session=True)
        return self

    def wait_until_ready(self):
        """Waits until the server answers PING."""
        wait_until(self._is_ready, "the server to answer", START_SECONDS_MAX, self.log)
        return self

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(
                f"the server ended with {self.process.returncode} at its start\n{self.log()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    @property
    def process_id(self):
        return self.process.pid

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        """What the server has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def send_signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """Ends the process as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS_MAX)

    def wait(self, seconds=STOP_SECONDS_MAX):
        """Waits for the process to end and returns its exit code."""
        return self.process.wait(seconds)

    def stop(self):
        """Asks the process to end and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop\n{self.log()}") from None
        # An event loop's words for what outlives it.
        assert "Cannot schedule tasks" not in self.log(), self.log()
        return code

    def restart(self):
        """Stops the process cleanly and starts it again on the same directory."""
        assert self.stop() == 0, self.log()
        return self.start().wait_until_ready()

    def client(self, **options):
        """A redis-py client without retries."""
        options.setdefault("socket_timeout", 30)
        return redis.Redis(
            host="127.0.0.1", port=self.port, retry=None, **options)

    def resident_bytes(self):
        """Memory that the process has in RAM."""
        for line in Path(f"/proc/{self.process_id}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process has no resident memory")


class TallyServer(Server):
    """`tally serve` on a data directory of its own."""

    def __init__(self, directory, *flags, environment=None):
        port = free_port()
        command = [
            tally_binary(), "serve", "--data", directory, "--port", port, *flags]
        super().__init__(command, port, directory, tally_environment(environment))

    def journal_files(self):
        """The paths of the journal's files, oldest first."""
        return sorted(self.directory.glob("journal-*"))


class RedisServer(Server):
    """The real Redis, without persistence."""

    def __init__(self, directory):
        port = free_port()
        Path(directory).mkdir(parents=True, exist_ok=True)
        command = [
            tool("redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", directory, "--enable-debug-command", "no"]
        super().__init__(command, port, directory)


class Broker(Server):
    """A nats-server that keeps each log's messages on disk before it says so."""

    def __init__(self, directory, name, port, route_port, routes, advertises=True):
        directory.mkdir(parents=True, exist_ok=True)
        configuration = directory / "server.conf"
        addresses = ", ".join(f"nats://127.0.0.1:{route}" for route in routes)
        configuration.write_text(
            f"""server_name: {name}
listen: 127.0.0.1:{port}
jetstream {{ store_dir: "{directory / 'store'}", sync_interval: always }}
cluster {{
  name: brokers, listen: 127.0.0.1:{route_port}, routes: [{addresses}]
  no_advertise: {"false" if advertises else "true"}
}}
""")
        super().__init__([nats_server(), "-c", configuration], port, directory)

    def _is_ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(64).startswith(b"INFO")
        except OSError:
            return False


def nats_server():
    """The broker's program: of the tests' environment, or installed."""
    installed = Path(sys.executable).parent / "nats-server"
    return str(installed) if installed.is_file() else tool("nats-server")


class ClusterNode(Server):
    """`tally serve` as a node of a cluster."""

    def __init__(self, directory, addresses, *flags):
        port, self.http_port = free_port(), free_port()
        command = [
            tally_binary(), "serve", "--data", directory, "--port", port, "--http-port",
            self.http_port, "--nats", addresses, *flags]
        super().__init__(command, port, directory, tally_environment())

    def set_nats(self, addresses):
        """Reaches the NATS servers at other addresses from the next start on."""
        self.command[self.command.index("--nats") + 1] = addresses


class ClusterUnderTest:
    """Three brokers and three nodes."""

    def __init__(self, directory, logs=4, count=3, copies=3, absence_seconds=300, flags=(),
                 advertises=True):
        self.directory = directory
        ports = [free_port() for _ in range(3)]
        routes = [free_port() for _ in range(3)]
        self.brokers = [
            Broker(directory / f"broker{number}", f"broker{number}", ports[number],
                   routes[number], routes, advertises)
            for number in range(3)]
        self.addresses = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.logs, self.copies, self.absence_seconds = logs, copies, absence_seconds
        self.nodes = [
            ClusterNode(directory / f"node{number}", self.addresses, *flags)
            for number in range(count)]

    def start(self):
        """Starts everything; what has been started is ended if that fails."""
        try:
            self._start()
        except BaseException:
            for server in self.nodes + self.brokers:
                if server.is_running:
                    server.kill()
            raise

    def _start(self):
        self.make()
        self.heal()

    def make(self, *flags):
        """Starts the brokers, and makes the cluster."""
        for broker in self.brokers:
            broker.start()
        for broker in self.brokers:
            broker.wait_until_ready()
        wait_until(
            lambda: self._is_made(flags), "the cluster to be made", 90, lambda: self.refusal)

    def _is_made(self, flags):
        made = run_tally(
            "cluster", "init", "--nats", self.addresses, "--logs", self.logs, "--copies",
            self.copies, "--absence-seconds", self.absence_seconds, *flags)
        self.refusal = made.stdout + made.stderr
        # An attempt whose answer was lost may have made it.
        return made.returncode == 0 or "already" in made.stderr

    def add_node(self, *flags):
        """One more node, which runs."""
        node = ClusterNode(
            self.directory / f"node{len(self.nodes)}", self.addresses, *flags)
        self.nodes.append(node)
        node.start().wait_until_ready()
        return node

    def slots(self, node):
        """The map that a node tells clients: the ranges of slots and their masters' ports."""
        return {
            (begin, end): [server[1] for server in servers]
            for begin, end, *servers in node.client().execute_command("CLUSTER", "SLOTS")}

    def wait_until_placed(self, masters=None):
        """Waits until every node that runs tells the same map of all slots."""
        def are_placed():
            maps = [self._slot_list(node) for node in self.nodes if node.is_running]
            covered = sum(end - begin + 1 for begin, end, _ in maps[0])
            ports = {port for _, _, port in maps[0]}
            return covered == 16384 and all(each == maps[0] for each in maps) and (
                masters is None or len(ports) == masters)
        wait_until(are_placed, "all nodes to tell one map of all slots", 60)

    def _slot_list(self, node):
        slots = redis.Redis(port=node.port).connection_pool.get_connection()
        try:
            slots.send_command("CLUSTER", "SLOTS")
            return [(begin, end, servers[0][1]) for begin, end, *servers in slots.read_response()]
        except redis.ResponseError:
            return [(0, 0, 0)]
        finally:
            slots.disconnect()

    def heal(self):
        """Starts what does not run, and waits until writes are taken everywhere."""
        for server in self.brokers + self.nodes:
            if not server.is_running:
                server.start()
        for server in self.brokers + self.nodes:
            server.wait_until_ready()
        self.wait_until_brokers_agree()

    def wait_until_brokers_agree(self):
        """Waits until every log takes writes by every node."""
        for node in self.nodes:
            if node.is_running:
                wait_until(lambda node=node: self._takes_writes(node), "writes to be taken", 90)

    def _takes_writes(self, node):
        try:
            client = node.client(socket_timeout=60)
            return all(client.incr(f"probe:{number}") for number in range(32))
        except redis.RedisError:
            return False

    def counters(self, node):
        """All plain keys of a node and their values."""
        client = node.client()
        keys = sorted(client.scan_iter(count=1000, _type="string"))
        return dict(zip(keys, client.mget(keys), strict=True)) if keys else {}

    def wait_until_equal(self):
        """Waits until all nodes say the same."""
        def are_equal():
            first, *others = [self.counters(node) for node in self.nodes if node.is_running]
            return all(other == first for other in others)
        wait_until(are_equal, "all nodes to say the same", 60)

    def verify(self):
        """Has the nodes compared, log by log, and returns what was said of each."""
        verified = run_tally("cluster", "verify", "--nats", self.addresses, "--json", timeout=300)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        return json.loads(verified.stdout)

    def stop(self):
        failed = []
        for node in self.nodes:
            try:
                code = node.stop() if node.is_running else node.process and node.process.returncode
            except AssertionError as error:
                # The others, and the brokers, must not be left behind.
                failed.append(str(error))
                continue
            # Some have been killed; any other end than a clean one is a crash.
            if code not in (0, None, -signal.SIGKILL):
                failed.append(f"ended with {code}\n{node.log()}")
        for broker in self.brokers:
            if broker.is_running:
                broker.kill()
        assert not failed, failed
