"""The Redis protocol by hand: raw bytes out, raw bytes in."""

import socket


def encode(*arguments):
    """A command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if isinstance(argument, int):
            argument = str(argument)
        if isinstance(argument, str):
            argument = argument.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


def command(line):
    """A command of words without spaces, as an array of bulk strings."""
    return encode(*line.split())


def commands(*lines):
    """Several such commands, one behind the other."""
    return b"".join(command(line) for line in lines)


class Closed(Exception):
    """The server has closed the connection."""


class RawConnection:
    """A connection that shows every byte."""

    SENTINEL = b"-- this is the end of what is compared --"

    def __init__(self, port, timeout=30, receive_buffer_bytes=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def call(self, *arguments):
        """Sends one command and returns its reply's bytes."""
        self.send(encode(*arguments))
        return self.read_reply()

    def fill(self):
        """Receives some more bytes."""
        try:
            received = self.socket.recv(1 << 18)
        except ConnectionResetError:
            received = b""
        if not received:
            raise Closed
        self.buffer += received

    def take(self, count):
        """Removes `count` bytes from the front of what was received."""
        while len(self.buffer) < count:
            self.fill()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def take_line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.fill()
        return self.take(end + 2)

    def read_reply(self):
        """The bytes of one whole reply, in RESP2 or RESP3."""
        line = self.take_line()
        kind = line[:1]
        if kind in b"$=!" and line[1:2] != b"-":
            return line + self.take(int(line[1:]) + 2)
        if kind in b"*~>%|" and line[1:2] != b"-":
            count = int(line[1:]) * (2 if kind in b"%|" else 1)
            return line + b"".join(self.read_reply() for _ in range(count))
        if kind not in b"+-:_#,($=!*~>%|":
            raise AssertionError(f"not a reply: {line!r}")
        return line

    def read_until_closed(self):
        """Everything that comes until the server closes."""
        try:
            while True:
                self.fill()
        except Closed:
            received = bytes(self.buffer)
            self.buffer.clear()
            return received

    def exchange(self, data):
        """Sends `data` and returns all replies to it, up to a closed connection if any.

        An ECHO behind the data shows where its replies end.
        """
        end = encode(self.SENTINEL).split(b"\r\n", 1)[1]
        self.send(data + encode("ECHO", self.SENTINEL))
        try:
            while not self.buffer.endswith(end):
                self.fill()
        except Closed:
            return bytes(self.buffer) + b"<closed>"
        except TimeoutError:
            return bytes(self.buffer) + b"<silent>"
        replies = bytes(self.buffer[: -len(end)])
        self.buffer.clear()
        return replies
