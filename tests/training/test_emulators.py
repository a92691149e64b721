"""A run whose workdir is in an emulated store, killed and resumed by a process of its own.

The emulators and the libraries of the stores are large and no part of `make test`: pip install
-e '.[cloud]' gcp-storage-emulator 'moto[server]'.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.helpers import SMALLEST

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore"),
]  # of the emulators
NEEDED = {"gs": ("gcsfs", "gcp_storage_emulator"), "s3": ("s3fs", "moto")}
KEYS = [
    *SMALLEST,
    "--config=digits_lt",
    "--config.method=ce",
    "--config.cpu_devices=1",
    "--config.engine.steps_per_call=1",
    "--config.train.epochs=40",
    "--config.checkpoint.every_epochs=2",
    "--config.evaluation.every_epochs=40",
]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(params=["gs", "s3"])
def bucket(request, monkeypatch):
    """URL of an empty bucket of an emulator, and the store for a look from outside."""
    for name in NEEDED[request.param]:
        pytest.importorskip(name, reason="needs the extra cloud and an emulator")
    import fsspec

    port = free_port()
    if request.param == "gs":
        from gcp_storage_emulator.server import create_server

        server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        # Asks Google what kind a bucket is, past the emulator.
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
    else:
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
    server.start()
    fsspec.filesystem(request.param).clear_instance_cache()
    options = {"token": "anon"} if request.param == "gs" else {}
    store = fsspec.filesystem(request.param, use_listings_cache=False, **options)
    if request.param == "s3":
        store.mkdir("bucket")
    yield f"{request.param}://bucket/runs/one", store
    server.stop()


# Copies often; the first one kills itself while it copies its second checkpoint.
START = """
import os, sys
from ltjax.training import store
from ltjax.main import main

def send(self, name, original=store.Store._send):
    step = store._step_of(name)
    steps = set(map(store._step_of, self._there)) - {None}
    if step and steps and step not in steps:
        os.kill(os.getpid(), 9)
    return original(self, name)

store.EVERY_SECONDS = 0.2
if sys.argv.pop(1) == "killed":
    store.Store._send = send
sys.exit(main())
"""


def train(url, how):
    """Exit code and everything printed."""
    done = subprocess.run(
        [sys.executable, "-c", START, how, f"--workdir={url}", *KEYS],
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_killed_run_goes_on_from_the_store(bucket):
    url, store = bucket
    path = url.partition("://")[2]

    def listed():
        return set(json.loads(store.cat_file(f"{path}/manifest.json"))["files"])

    code, printed = train(url, "killed")
    assert code == -signal.SIGKILL, printed
    assert any(name.startswith("checkpoints/") for name in listed())
    assert "result.json" not in listed()
    code, printed = train(url, "resumed")
    assert code == 0, printed
    began = int(re.search(r"training from step (\d+) of 280", printed)[1])
    assert began > 0
    wanted = {"result.json", "report.html", "metrics.jsonl", "config.json"}
    assert wanted <= listed()
    assert any(name.startswith("tensorboard/") for name in listed())
    there = {name.partition("/runs/one/")[2] for name in store.find(path)}
    assert there == listed() | {"manifest.json"}
    lines = [json.loads(line) for line in store.cat_file(f"{path}/metrics.jsonl").splitlines()]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == list(range(20, 281, 20))
    code, printed = train(url, "again")
    assert code == 0, printed
    assert "is finished already" in printed
