#!/usr/bin/env python3
"""What one of each thing costs a cluster: the figures that `tally capacity` computes with.

Processor time of nodes and NATS servers is taken under two loads that differ in how much goes into a message, and in how
many copies there are; what one increment, one copy, one message and one byte cost follows. Prints JSON that
`tally capacity --costs` takes; memory and disk come from what `make bench-dense` measures, and are passed through.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

from cluster import KEYS, Connection, Tally, cpu_seconds, name, run, shuffled, uniform


def load(logs, count, per_node, depth, seconds):
    """Microseconds of the nodes and of the NATS servers for an increment, and increments and bytes of a message."""
    with tempfile.TemporaryDirectory() as directory:
        contender = Tally(directory, logs, count)
        try:
            connections = contender.connections(uniform, depth, per_node)
            run(connections, seconds / 4)
            brokers = [each.process for each in contender.cluster.brokers]
            before = cpu_seconds(contender.node_processes), cpu_seconds(brokers)
            stored = contender.stored_bytes()
            number, took, latencies = run(connections, seconds)
            increments = number * depth
            after = contender.stored_bytes()
            return {
                "nodes": (cpu_seconds(contender.node_processes) - before[0]) / increments * 1e6,
                "brokers": (cpu_seconds(brokers) - before[1]) / increments * 1e6,
                "increments": increments / (after[1] - stored[1]),
                "bytes": (after[0] - stored[0]) / increments,
                "rate": increments / took,
                "milliseconds": statistics.median(latencies) * 1000}
        finally:
            contender.stop()


def reads(batch, depth, seconds):
    """Microseconds of a node for a key that is read together with others."""
    with tempfile.TemporaryDirectory() as directory:
        contender = Tally(directory, 4, 1)
        try:
            node = contender.cluster.nodes[0]
            keys = contender.connections(uniform, 100, 16)
            run(keys, seconds / 2)
            draw = random.Random(1)
            requests = []
            for _ in range(500):
                words = [b"MGET"] + [name(draw.randrange(KEYS)) for _ in range(batch)]
                encoded = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
                requests.append(encoded * depth)
            # A line for the array, one or two for each value.
            connections = [
                Connection(node.port, shuffled(requests, number), depth, mark=b"*%d\r\n" % batch)
                for number in range(16)]
            run(connections, seconds / 4)
            before = cpu_seconds(contender.node_processes)
            number, took, _ = run(connections, seconds)
            return (cpu_seconds(contender.node_processes) - before) / (number * depth * batch) * 1e6
        finally:
            contender.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tally", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--write", help="a JSON file to write")
    options = parser.parse_args()
    os.environ["TALLY_BINARY"] = str(Path(options.tally).resolve())

    def median(measure):
        found = [measure() for _ in range(options.rounds)]
        if isinstance(found[0], float):
            return statistics.median(found)
        return {field: statistics.median(each[field] for each in found) for field in found[0]}

    large = median(lambda: load(1, 3, 128, 200, options.seconds))
    alone = median(lambda: load(1, 1, 384, 200, options.seconds))
    small = median(lambda: load(16, 3, 16, 100, options.seconds))
    lone = median(lambda: load(1, 3, 1, 1, options.seconds))
    apply = (large["nodes"] - alone["nodes"]) / 2
    # Of an increment: share of a message, and its bytes.
    shares = [(1 / each["increments"], each["bytes"], each["brokers"]) for each in (large, small)]
    (m1, b1, c1), (m2, b2, c2) = shares
    determinant = m1 * b2 - m2 * b1
    message = (c1 * b2 - c2 * b1) / determinant
    byte = (m1 * c2 - m2 * c1) / determinant
    costs = json.loads(subprocess.run(
        [options.tally, "capacity", "--json"], capture_output=True, text=True, check=True).stdout)["costs"]
    costs.update({
        "acceptMicroseconds": alone["nodes"] - apply, "applyMicroseconds": apply,
        "nodeMessageMicroseconds": lone["nodes"] - costs["unpipelinedMicroseconds"],
        "readMicroseconds": median(lambda: reads(20, 8, options.seconds)),
        "incrementBytes": large["bytes"], "messageMicroseconds": message,
        "brokerByteMicroseconds": byte, "messageMilliseconds": lone["milliseconds"]})
    costs = {field: round(value, 4) for field, value in costs.items()}
    print(json.dumps({"large": large, "alone": alone, "small": small, "lone": lone}, indent=1))
    text = json.dumps(costs, indent=1)
    print(text)
    if options.write:
        Path(options.write).write_text(text + "\n")


if __name__ == "__main__":
    main()
