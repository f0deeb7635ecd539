"""Records a process's system calls with strace and reads the record."""

import re
import subprocess

from servers import tool, wait_until

NAMES = [
    "read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg", "pwrite64",
    "pwritev", "pwritev2", "fdatasync", "fsync",
]
READS = {"read", "readv", "recvfrom", "recvmsg"}
WRITES = {"write", "writev", "sendto", "sendmsg"}
FILE_WRITES = {"pwrite64", "pwritev", "pwritev2"}
SYNCS = {"fdatasync", "fsync"}

LINE = re.compile(r"(?P<thread>\d+) +(?P<time>[\d:.]+) (?P<rest>.*)", re.DOTALL)
BEGINNING = re.compile(r"(?P<name>\w+)\((?P<descriptor>\d+)<(?P<target>[^>]*)>")
RESULT = re.compile(r"= (-?\d+)[^=]*$")


class Call:
    """One system call: when it was entered and left, as numbers of lines in the record.

    strace holds a thread at the entry of a call until it has written that down, and at the exit
    again, before the thread may go on. So the order of lines is an order of events: if one call's
    exit stands before another call's entry, then it really had returned before the other began.
    """

    def __init__(self, name, descriptor, target, text, entered):
        self.name = name
        self.descriptor = descriptor
        self.target = target
        self.text = text
        self.entered = entered
        self.left = None
        self.result = None

    def leave(self, text, line):
        self.text += text
        self.left = line
        found = RESULT.search(self.text)
        self.result = int(found.group(1)) if found else None

    def __repr__(self):
        return f"{self.name}({self.descriptor}<{self.target}>) lines {self.entered}-{self.left}"


class Recording:
    """strace, attached to all threads of a running process."""

    def __init__(self, process_id, directory):
        self.path = directory / "system-calls"
        self.messages = directory / "strace-messages"
        with open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(
                [tool("strace"), "-f", "-tt", "-y", "-s", "65536", "-o", str(self.path),
                 "-e", "trace=" + ",".join(NAMES), "-p", str(process_id)],
                stdout=messages, stderr=messages)
        try:
            wait_until(self._is_attached, "strace to attach")
        except BaseException:
            self.stop()
            raise

    def _is_attached(self):
        text = self.messages.read_text()
        assert self.process.poll() is None, f"strace cannot attach: {text}"
        return "attached" in text

    def stop(self):
        """Detaches and returns all calls, in the order of their entries."""
        self.process.terminate()
        self.process.wait(60)
        return read_calls(self.path.read_text(errors="replace"))


def read_calls(record):
    """The calls on files and sockets that a record of strace shows."""
    calls, unfinished = [], {}
    for number, line in enumerate(record.splitlines()):
        parts = LINE.match(line)
        if parts is None:
            continue
        thread, rest = parts["thread"], parts["rest"]
        if rest.startswith("<... "):
            call = unfinished.pop(thread, None)
            if call is not None:
                call.leave(rest, number)
            continue
        beginning = BEGINNING.match(rest)
        if beginning is None:
            continue
        call = Call(
            beginning["name"], int(beginning["descriptor"]), beginning["target"], rest, number)
        calls.append(call)
        if rest.endswith("<unfinished ...>"):
            unfinished[thread] = call
        else:
            call.leave("", number)
    return calls
