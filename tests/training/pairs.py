"""Pairs of hosts, forked from one process that has imported everything, one pair after another.

    python -m tests.training.pairs FOLDER < PAIRS

PAIRS is JSON: a list of pairs, each a list of two hosts, each null for one that never starts or an
object with `args`, those of the command line, and perhaps:

- `signal`: the name of one that it sends to itself, and `after`: the step after which it does so,
  or nothing: when it loads its data. Unless the signal is SIGTERM, it lives to see the checkpoint
  of that step. After SIGSTOP it is silent until the other one has ended.
- `seconds`: after so many the signal comes, wherever the host then is.
- `damaged`: a folder of files, of which it damages the largest before it starts.
- `late`, `slow`: seconds that it starts later, or takes longer to load its data.
- `constants`: those of `ltjax.training.hosts` that it has.
- `beside`: true for a pair that runs beside the others, since it mostly waits.

Printed is, for each pair, how its hosts ended: code, standard error, seconds; null for one that
never started. FOLDER is for what they write to their standard error.
"""

import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import ltjax.report.build
import ltjax.report.terminal
import ltjax.serving.load
import ltjax.training.run
from ltjax.main import console
from ltjax.training import hosts, loop, provenance


class Host(NamedTuple):
    """A process, the file of its standard error, and whose it is."""

    process: int
    said: Path
    pair: int
    number: int
    silent: bool
    began: float

    def end(self, status):
        """Code, standard error and seconds; a silent one ended when it fell silent."""
        ended = self.said.stat().st_mtime if self.silent else time.time()
        return os.waitstatus_to_exitcode(status), self.said.read_text(), ended - self.began


def start(host, folder, flags):
    """Forks a host; its process and the file of its standard error."""
    said = Path(tempfile.mkstemp(dir=folder)[1])
    process = os.fork()
    if process:
        return process, said
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(os.open(said, os.O_WRONLY), 2)
    for name, value in host.get("constants", {}).items():
        setattr(hosts, name, value)
    prepare(host)
    time.sleep(host.get("late", 0))
    sys.argv = ["ltjax", *host["args"], *flags]
    console()


def damage(folder):
    """Changes one bit of the largest file of a folder."""
    largest = max(Path(folder).iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 16
    largest.write_bytes(content)


def prepare(host):
    """Has the signal sent in time, and the data loaded late."""
    if "damaged" in host:
        damage(host["damaged"])
    name, step, sent = host.get("signal"), host.get("after"), []
    under_way, build = loop.Loop._under_way, ltjax.training.run.build

    def send():
        if name == "SIGSTOP":
            print("silent", file=sys.stderr, flush=True)
        sent.append(name)
        os.kill(os.getpid(), getattr(signal, name))

    def then_sent(self):
        under_way(self)
        if self.step > step and not sent:
            while name != "SIGTERM" and not (self.folder.checkpoints / str(step)).exists():
                time.sleep(0.01)
            send()

    def build_late(*args, **options):
        time.sleep(host.get("slow", 0))
        if name and step is None:
            send()
        return build(*args, **options)

    ltjax.training.run.build = build_late
    if name and "seconds" in host:
        threading.Timer(host["seconds"], send).start()
    elif name and step is not None:
        loop.Loop._under_way = then_sent


def flags_of_a_pair():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = ["--distributed", f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"]
    return [[*shared, f"--process_id={i}"] for i in range(2)]


def start_pair(number, pair, folder):
    """Forks the hosts of a pair."""
    for i, (host, flags) in enumerate(zip(pair, flags_of_a_pair(), strict=True)):
        if host:
            began, silent = time.time(), host.get("signal") == "SIGSTOP"
            yield Host(*start(host, folder, flags), number, i, silent, began)


def run(pairs, folder):
    """Runs all pairs; how their hosts ended."""
    beside = [any(host and host.get("beside") for host in pair) for pair in pairs]
    first = [number for number in range(len(pairs)) if beside[number]]
    queue = [number for number in range(len(pairs)) if not beside[number]]
    ends = [[None, None] for _ in pairs]
    for number in first:
        RUNNING.extend(start_pair(number, pairs[number], folder))
    while queue or RUNNING:
        if queue and all(beside[host.pair] for host in RUNNING):
            number = queue.pop(0)
            RUNNING.extend(start_pair(number, pairs[number], folder))
        process, status = os.wait()
        ended = next(host for host in RUNNING if host.process == process)
        RUNNING.remove(ended)
        ends[ended.pair][ended.number] = ended.end(status)
        for host in RUNNING:
            if host.silent and host.pair == ended.pair:
                os.kill(host.process, signal.SIGKILL)
    return ends


RUNNING: list[Host] = []


def give_up(number, frame):
    """Ends all, where one of them does not end."""
    for host in RUNNING:
        os.kill(host.process, signal.SIGKILL)
    sys.exit(f"still running: {RUNNING}")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(840)
    # Neither the figures nor, for most, a silence of many seconds are what is tried.
    ltjax.report.build.write = lambda workdir: Path()
    hosts.SILENCE_SECONDS = 4
    # What takes a second and is kept, so that the hosts have it.
    provenance.sources_digest()
    for name in ("grain", "tensorboardX.record_writer", "ltjax.config.command_line"):
        importlib.import_module(name)
    print(json.dumps(run(json.load(sys.stdin), sys.argv[1])))
