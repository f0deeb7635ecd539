#!/usr/bin/env python3
"""Instructions per command, counted by callgrind, against the thresholds kept beside this file.

Counts do not depend on what else the machine does. The server runs twice for each case, with fewer
and with more commands; the difference is what the commands cost, start and stop cancelled out.
`--update` writes what was counted as the new thresholds.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
THRESHOLDS = os.path.join(HERE, "instructions.json")
KEYS = 20_000
FEW, MANY = 4_000, 44_000
TOLERANCE = 1.05


def words(*arguments):
    return b"*%d\r\n" % len(arguments) + b"".join(
        b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments)


def key(number):
    return b"key:%012d" % (number * 7919 % KEYS)


def token(number):
    """A UUID of version 7 of now."""
    high = int(time.time() * 1000) << 16 | 7 << 12 | number & 0xfff
    low = 2 << 62 | number * 0x9e3779b97f4a7c15 & (1 << 62) - 1
    return str(uuid.UUID(int=high << 64 | low)).encode()


def commands(kind, count):
    """Commands and how many lines each one's reply has."""
    for number in range(count):
        if kind == "INCR":
            yield words(b"INCR", key(number)), 1
        elif kind == "ONCE":
            yield words(b"ONCE", token(number), b"INCR", key(number)), 1
        elif kind == "GET":
            yield words(b"GET", key(number)), 2
        else:
            yield words(b"MGET", *(key(number * 20 + i) for i in range(20))), 41


CASES = [
    ("INCR, pipeline 1", "INCR", 1, []), ("INCR, pipeline 16", "INCR", 16, []),
    ("INCR, pipeline 100", "INCR", 100, []), ("GET, pipeline 16", "GET", 16, []),
    ("ONCE INCR, pipeline 100", "ONCE", 100, []),
    ("MGET of 20, pipeline 8", "MGET", 8, []),
    ("INCR, pipeline 1, null engine", "INCR", 1, ["--engine", "null"]),
    ("INCR, pipeline 16, null engine", "INCR", 16, ["--engine", "null"]),
]


def converse(connection, kind, count, pipeline):
    batch, lines, sent = [], 0, 0
    for command, reply_lines in commands(kind, count):
        batch.append(command)
        lines += reply_lines
        sent += 1
        if len(batch) == pipeline or sent == count:
            connection.sendall(b"".join(batch))
            while lines > 0:
                lines -= connection.recv(1 << 20).count(b"\n")
            batch, lines = [], 0


def count_instructions(binary, kind, pipeline, options, count):
    with tempfile.TemporaryDirectory(prefix="tally-instructions-") as directory:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = open(os.path.join(directory, "log"), "w+")
        process = subprocess.Popen(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", binary,
             "serve", "--data", f"{directory}/data", "--port", str(port), "--threads", "1",
             "--durability", "none", "--log-level", "error", *options],
            stdout=log, stderr=log)
        try:
            deadline = time.time() + 60
            while True:
                try:
                    connection = socket.create_connection(("127.0.0.1", port), 1)
                    break
                except OSError:
                    if time.time() > deadline or process.poll() is not None:
                        log.seek(0)
                        raise SystemExit("the server does not start:\n" + log.read())
                    time.sleep(0.1)
            connection.settimeout(120)
            with connection:
                # Every key exists before anything is counted.
                converse(connection, "INCR", KEYS, 100)
                converse(connection, kind, count, pipeline)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            if process.poll() is None:
                process.kill()
        log.seek(0)
        return int(re.search(r"Collected : (\d+)", log.read()).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tally", required=True)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    thresholds = json.load(open(THRESHOLDS)) if os.path.exists(THRESHOLDS) else {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="tally-instructions-") as directory:
        # Valgrind cannot read this much debug information.
        binary = os.path.join(directory, "tally")
        shutil.copy(options.tally, binary)
        subprocess.run(["strip", "-g", binary], check=True)
        for name, kind, pipeline, arguments in CASES:
            few, many = (
                count_instructions(binary, kind, pipeline, arguments, count)
                for count in (FEW, MANY))
            cost = (many - few) / (MANY - FEW)
            bound = thresholds.get(name)
            verdict = "new"
            if options.update:
                thresholds[name] = round(cost)
            elif bound:
                verdict = "ok" if cost <= bound * TOLERANCE else "TOO MANY"
                failed = failed or verdict == "TOO MANY"
            print(f"{name}: {cost:,.0f} instructions per command, threshold "
                  f"{bound or 'none'}: {verdict}", flush=True)
    if options.update:
        with open(THRESHOLDS, "w") as file:
            json.dump(thresholds, file, indent=4)
            file.write("\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
