"""Pairs of hosts, forked from one process that has imported everything, one pair after another.

    python -m tests.training.pairs FOLDER < PAIRS

PAIRS is JSON: a list of pairs, each a list of two hosts, each an object with `args`, those of the
command line, and perhaps `killed_after`, the step whose checkpoint is the last thing that it lives
to see. Printed is, for each pair, how its hosts ended: code, standard error, seconds. FOLDER is for
what they write to their standard error.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import ltjax.report.build
import ltjax.report.terminal
import ltjax.serving.load
import ltjax.training.run
from ltjax.main import console
from ltjax.training import hosts, loop, provenance


def start(host, folder, flags):
    """Forks a host; its process and the file of its standard error."""
    said = Path(tempfile.mkstemp(dir=folder)[1])
    process = os.fork()
    if process:
        return process, said
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(os.open(said, os.O_WRONLY), 2)
    if "killed_after" in host:
        kill_after(host["killed_after"])
    sys.argv = ["ltjax", *host["args"], *flags]
    console()


def kill_after(step):
    """Has this process kill itself once the checkpoint of a step is there, in the steps after."""
    under_way = loop.Loop._under_way

    def then_killed(self):
        under_way(self)
        if self.step > step:
            while not (self.folder.checkpoints / str(step)).exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    loop.Loop._under_way = then_killed


def flags_of_a_pair():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = ["--distributed", f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"]
    return [[*shared, f"--process_id={i}"] for i in range(2)]


def run(pair, folder):
    """Starts a pair and waits for both; code, standard error and seconds of each."""
    both = zip(pair, flags_of_a_pair(), strict=True)
    started = dict(start(host, folder, flags) for host, flags in both)
    began, ended = time.monotonic(), {}
    for _ in pair:
        process, status = os.wait()
        code, text = os.waitstatus_to_exitcode(status), started[process].read_text()
        ended[process] = (code, text, time.monotonic() - began)
    return [ended[process] for process in started]


if __name__ == "__main__":
    # Neither the figures nor a silence of many seconds are what is tried.
    ltjax.report.build.write = lambda workdir: Path()
    hosts.SILENCE_SECONDS = 4
    provenance.sources_digest()  # which is kept, and takes a second
    print(json.dumps([run(pair, sys.argv[1]) for pair in json.load(sys.stdin)]))
