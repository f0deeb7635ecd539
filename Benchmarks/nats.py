#!/usr/bin/env python3
"""Measures TallyNATS against three nats-servers on this machine that sync every write, and one."""

import argparse
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(server, count, directory):
    ports, routes = free_ports(count), free_ports(count)
    processes = []
    for index in range(count):
        cluster = ""
        if count > 1:
            urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
            cluster = f'cluster {{ name: bench, listen: "127.0.0.1:{routes[index]}", routes: [{urls}] }}'
        config = directory / f"{index}.conf"
        config.write_text(
            f'server_name: n{index}\nlisten: "127.0.0.1:{ports[index]}"\n'
            f'jetstream {{ store_dir: "{directory}/{index}", sync_interval: always }}\n{cluster}\n'
        )
        processes.append(
            subprocess.Popen([server, "-c", config, "-l", directory / f"{index}.log"])
        )
    for port in ports:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
    time.sleep(6 if count > 1 else 0)
    return processes, ",".join(f"nats://127.0.0.1:{port}" for port in ports)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", default=".build/release/NATSBenchmark")
    parser.add_argument("--server", default=shutil.which("nats-server") or ".venv/bin/nats-server")
    parser.add_argument("--seconds", default="5")
    options = parser.parse_args()
    for replicas in (1, 3):
        with tempfile.TemporaryDirectory() as directory:
            processes, servers = start(options.server, replicas, pathlib.Path(directory))
            try:
                for streams, size in ((1, 128), (1, 32 << 10), (16, 32 << 10), (16, 512 << 10)):
                    subprocess.run(
                        [
                            options.benchmark, servers, "--replicas", str(replicas),
                            "--streams", str(streams), "--bytes", str(size),
                            "--seconds", options.seconds,
                        ],
                        check=True,
                    )
            finally:
                for process in processes:
                    process.kill()
                for process in processes:
                    process.wait()


if __name__ == "__main__":
    main()
