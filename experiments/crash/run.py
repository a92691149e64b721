"""Kills a run with SIGKILL at random moments, resumes it, compares with an uninterrupted run.

    python -m experiments.crash.run [--tries 30] [--out DIR] [--config.KEY=VALUE ...]

The tries go round four cases: 1 and 4 devices, 1 and 3 seeds. Every try starts a fresh run, kills
it at a random moment of its training, gives the same command again, and compares the metrics of
`result.json` and all arrays of the last checkpoint with those of a run that was never killed, bit
for bit. Processes share a compilation cache, so that most of their time is training.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[2]
COMMAND = "python -m experiments.crash.run --out experiments/crash/results"
# Of the digits config, shortened so that thirty tries take ten minutes.
LENGTH = ["--config.train.epochs=40", "--config.checkpoint.every_epochs=10"]
# Devices and seeds.
CASES = ((1, "(0,)"), (4, "(0,)"), (1, "(0,1,2)"), (4, "(0,1,2)"))


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
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "cache")},
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
    metrics = {key: result[key] for key in ("test", "per_seed") if key in result}
    return metrics, [np.asarray(leaf) for _, leaf in leaves]


def wait_for_training(workdir: Path, process: subprocess.Popen) -> float:
    """Waits until a process trains, and returns the time."""
    while process.poll() is None and not (workdir / "metrics.jsonl").exists():
        time.sleep(0.005)
    return time.monotonic()


def one_try(workdir: Path, case: list[str], delay: float) -> str:
    """Kills a run so long after its training began, lets it end; what was there at the kill."""
    process = start(workdir, case)
    wait_for_training(workdir, process)
    try:
        process.wait(delay)
        return "ended before the kill"
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    finish(workdir, case)
    return f"killed after {delay:.2f} s of training, checkpoints {steps}"


def table(content: dict) -> str:
    """Tries and equal outcomes of every case, as Markdown."""
    lines = ["| devices | seeds | killed before the first checkpoint | killed later | equal |"]
    lines.append("|---|---|---|---|---|")
    for devices, seeds in CASES:
        rows = [r for r in content["rows"] if (r["devices"], r["seeds"]) == (devices, seeds)]
        early = sum(row["what"].endswith("[]") for row in rows)
        late = sum("killed" in row["what"] for row in rows) - early
        equal = sum(row["equal"] for row in rows)
        lines.append(f"| {devices} | {seeds} | {early} | {late} | {equal} of {len(rows)} |")
    lines.append(f"| all | | | | {content['equal']} of {content['tries']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints one line per try and the number that agreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args, overrides = parser.parse_known_args()
    moments = random.Random(args.seed)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        references = []
        for devices, seeds in CASES:
            case = [
                *LENGTH,
                *overrides,
                f"--config.cpu_devices={devices}",
                f"--config.seeds={seeds}",
            ]
            whole = Path(name) / f"whole-{devices}-{len(references)}"
            finish(whole, case)  # fills the compilation cache
            shutil.rmtree(whole)
            process = start(whole, case)
            began = wait_for_training(whole, process)
            process.communicate()
            references.append((case, time.monotonic() - began, *outcome(whole)))
            print(f"uninterrupted, {devices} devices, seeds {seeds}: done", flush=True)
        for number in range(args.tries):
            case, length, test, arrays = references[number % len(references)]
            devices, seeds = CASES[number % len(CASES)]
            workdir = Path(name) / f"try{number}"
            what = one_try(workdir, case, moments.uniform(0, 0.95) * length)
            again, others = outcome(workdir)
            same = again == test and len(others) == len(arrays)
            same &= all(a.tobytes() == b.tobytes() for a, b in zip(arrays, others, strict=False))
            row = {"devices": devices, "seeds": seeds, "what": what, "equal": bool(same)}
            rows.append(row)
            print(f"try {number + 1}: {row}", flush=True)
            shutil.rmtree(workdir)
    agreed = sum(row["equal"] for row in rows)
    content = {"command": COMMAND, "equal": agreed, "tries": args.tries, "rows": rows}
    print("\n" + table(content))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "crash.json").write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(agreed != args.tries)


if __name__ == "__main__":
    main()
