"""Connections that increment counters and note what was sent and what was acknowledged."""

import bisect
import threading
import time

from protocol import Closed, RawConnection, encode


class Incrementer:
    """One connection that increments its own counter, pipelined, until the server is gone.

    Its counter always is at least `acknowledged` and at most `sent` steps beyond where it began.
    """

    def __init__(self, port, name, depth, start=0):
        self.port = port
        self.name = name
        self.depth = depth
        self.sent = start
        self.acknowledged = start
        # (monotonic time, acknowledged so far), noted after each reception.
        self.history = [(0.0, start)]
        self.error = None
        self.stop_requested = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive(), f"{self.name} hangs"
        if self.error is not None:
            raise self.error

    def _run(self):
        try:
            with RawConnection(self.port) as connection:
                while not self.stop_requested.is_set():
                    self._round(connection)
        except (Closed, ConnectionError):
            pass
        except BaseException as error:  # noqa: BLE001 - raised by join
            self.error = error

    def _round(self, connection):
        # Counted before it leaves: a part of it may arrive although sending fails.
        self.sent += self.depth
        connection.send(encode("INCR", self.name) * self.depth)
        for _ in range(self.depth):
            if b"\r\n" not in connection.buffer:
                self.history.append((time.monotonic(), self.acknowledged))
            line = connection.take_line()
            assert line == b":%d\r\n" % (self.acknowledged + 1), (line, self.acknowledged)
            self.acknowledged += 1
        self.history.append((time.monotonic(), self.acknowledged))

    def acknowledged_at(self, moment):
        """How much had certainly been acknowledged at a moment of the monotonic clock."""
        history = list(self.history)
        index = bisect.bisect_right(history, moment, key=lambda noted: noted[0])
        return history[index - 1][1] if index else 0


def start_incrementers(port, depths, starts=None):
    """One connection for each pipeline depth, on counters of their own."""
    starts = starts or [0] * len(depths)
    return [
        Incrementer(port, f"own:{number}", depth, start).start()
        for number, (depth, start) in enumerate(zip(depths, starts))]


def run_all(bodies):
    """Runs every body on a thread of its own and raises what any of them raised."""
    errors = []

    def guarded(body):
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            errors.append(error)

    # Daemons: one that hangs must not keep the run from ending.
    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def integers(connection, count):
    """The values of `count` integer replies."""
    values = []
    for _ in range(count):
        line = connection.take_line()
        assert line[:1] == b":", line
        values.append(int(line[1:]))
    return values
