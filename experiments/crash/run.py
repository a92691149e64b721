"""Kills a run with SIGKILL at random moments, resumes it, compares with an uninterrupted run.

    python -m experiments.crash.run [--tries 10] [--kills 2] [--config.KEY=VALUE ...]

Every try starts a fresh run, kills it several times, lets it end, and compares the `test`
part of `result.json` and all arrays of the last checkpoint with those of a run that was never
killed, bit for bit.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[2]


def start(workdir: Path, overrides: list[str]) -> subprocess.Popen:
    """Starts the command of the README."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ltjax.main",
            "--config",
            "configs/digits_lt.py",
            f"--workdir={workdir}",
            *overrides,
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(workdir: Path, overrides: list[str]) -> None:
    """Runs the command to its end."""
    process = start(workdir, overrides)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {errors.decode()[-2000:]}")


def outcome(workdir: Path) -> tuple[dict, list[np.ndarray]]:
    """Metrics of the result and the arrays of the last checkpoint."""
    result = json.loads((workdir / "result.json").read_text())
    last = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    folder = workdir.resolve() / "checkpoints" / str(last) / "state"
    reader = ocp.PyTreeCheckpointer()
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(folder).item_metadata
    )
    state = reader.restore(folder, restore_args=as_numpy)
    leaves = sorted(ocp.tree.to_flat_dict(state, sep="/").items())
    return result["test"], [np.asarray(leaf) for _, leaf in leaves]


def main() -> None:
    """Prints one line per try and the number that agreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args, overrides = parser.parse_known_args()
    moments = random.Random(args.seed)
    agreed = 0
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        started = time.monotonic()
        finish(whole, overrides)
        length = time.monotonic() - started
        test, arrays = outcome(whole)
        print(f"uninterrupted: {length:.1f} s, balanced accuracy {test['balanced_accuracy']}")
        for number in range(args.tries):
            workdir = Path(name) / f"try{number}"
            killed = []
            for _ in range(args.kills):
                process = start(workdir, overrides)
                delay = moments.uniform(0.1, 0.95) * length
                try:
                    process.wait(delay)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    done = sorted(p.name for p in (workdir / "checkpoints").glob("[0-9]*"))
                    killed.append(f"{delay:.1f} s (checkpoints {', '.join(done) or 'none'})")
            finish(workdir, overrides)
            again, others = outcome(workdir)
            same = again == test and all(
                a.tobytes() == b.tobytes() for a, b in zip(arrays, others, strict=True)
            )
            agreed += same
            print(
                f"try {number + 1}: killed at {'; '.join(killed) or 'no time'}: "
                f"{'equal' if same else 'DIFFERENT'}",
                flush=True,
            )
    print(f"{agreed} of {args.tries} equal, bit for bit")
    sys.exit(agreed != args.tries)


if __name__ == "__main__":
    main()
