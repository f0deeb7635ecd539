"""Under `always`, no reply leaves before the disk has what it reflects.

A server that answers too early passes every test that kills only its process, because the system
keeps what a dead process has written. So this test looks at the system calls themselves. Every
increment has a key of its own, which is found again in three places:

    read(socket, "… INCR … key …")         the command arrives
    pwrite64(journal, "… key …") = n       its group has been handed to the system
    fdatasync(journal) = 0                 entered after that pwrite64 returned
    write(socket, ":1")                    the reply: must be entered after that sync returned

A sync that was entered before the pwrite64 returned does not count: it need not cover it. A reply
to another client's GET that shows the new value reflects the group as well, and is held to the
same rule.
"""

import threading

import pytest

from load import run_all
from protocol import RawConnection
from system_calls import FILE_WRITES, READS, SYNCS, WRITES, Recording

CONNECTIONS, INCREMENTS = 4, 100
NEVER = float("inf")


def key_name(connection, number):
    return f"key:{connection}:{number:05}:"


def increment(port, connection_number, progress):
    with RawConnection(port) as connection:
        for number in range(INCREMENTS):
            progress[number].set()
            assert connection.call("INCR", key_name(connection_number, number)) == b":1\r\n"


def watch(port, progress):
    """Reads each key of the first connection until it is there."""
    with RawConnection(port) as connection:
        for number in range(INCREMENTS):
            assert progress[number].wait(60)
            while connection.call("GET", key_name(0, number)) != b"$1\r\n1\r\n":
                pass


def record(server, directory):
    """The system calls of a server that some connections use."""
    progress = [threading.Event() for _ in range(INCREMENTS)]
    recording = Recording(server.process_id, directory)
    try:
        run_all(
            [lambda number=number: increment(server.port, number, progress)
             for number in range(CONNECTIONS)]
            + [lambda: watch(server.port, progress)])
    finally:
        calls = recording.stop()
    return calls


def durable_since(calls, key):
    """The line from which on the disk has `key`; infinite if the record does not show it."""
    written = next((
        call for call in calls
        if call.name in FILE_WRITES and "/journal-" in call.target and key in call.text), None)
    if written is None or written.left is None:
        return NEVER
    assert written.result > 0, written
    return min((
        call.left for call in calls
        if call.name in SYNCS and call.target == written.target and call.result == 0
        and call.left is not None and call.entered > written.left), default=NEVER)


def replies_to(calls, key, word):
    """Each reply to a command `word` on `key`, as the call that sends it."""
    for index, call in enumerate(calls):
        if call.name in READS and "socket:" in call.target and key in call.text \
                and word in call.text:
            yield next(
                reply for reply in calls[index + 1:]
                if reply.name in WRITES and reply.target == call.target
                and reply.entered > call.left)


def early_replies(calls):
    """How many replies were looked at, and those that left too early."""
    increments, reads, early = 0, 0, []
    for connection in range(CONNECTIONS):
        for number in range(INCREMENTS):
            key = key_name(connection, number)
            since = durable_since(calls, key)
            for reply in replies_to(calls, key, "INCR"):
                assert '":1\\r\\n"' in reply.text, reply.text
                increments += 1
                if not reply.entered > since:
                    early.append((key, reply, since))
            for reply in replies_to(calls, key, "GET"):
                # A reply that shows nothing yet reflects nothing of this key.
                if '"$1\\r\\n1\\r\\n"' in reply.text:
                    reads += 1
                    if not reply.entered > since:
                        early.append((key, reply, since))
    return increments, reads, early


@pytest.mark.parametrize("threads", [1, 2])
def test_no_reply_leaves_before_the_sync(start_tally, tmp_path, threads):
    server = start_tally("--threads", threads)
    increments, reads, early = early_replies(record(server, tmp_path))
    assert increments == CONNECTIONS * INCREMENTS
    assert reads == INCREMENTS
    assert not early, early[:5]


def test_early_replies_would_be_found(start_tally, tmp_path):
    """The same look at a server that may reply early finds that it does."""
    server = start_tally("--durability", "interval=1000")
    increments, _, early = early_replies(record(server, tmp_path))
    assert increments == CONNECTIONS * INCREMENTS
    assert len(early) > increments // 2
