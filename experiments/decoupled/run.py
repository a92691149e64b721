"""The digits at imbalance factor 50: plain cross entropy, its decoupled second stages, and losses.

    python -m experiments.decoupled.run [--seeds 0 1 2 3 4] [--rows crt balanced_softmax ...]
                                        [--out experiments/decoupled/results] [--work FOLDER]

A stage two starts from the row `ce` of its seed. Writes one JSON file, after every row, and prints
the table of README.md. With --work the runs are kept there: the same command again takes up where
an interrupted one stopped.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ltjax import config as configs
from ltjax.decoupled import run
from ltjax.methods import METHODS, STAGES
from ltjax.training.loop import versions
from ltjax.training.watch import SilentWatcher

COLUMNS = ("accuracy", "balanced_accuracy", "many", "medium", "few")
IMBALANCE = 50.0
HELD_OUT = 0.2
TRAINED = ("crt", "lws")
END_TO_END = ("logit_adjustment", "balanced_softmax", "ldam_drw", "cw_la_b3rs_bet")
TWO_STAGES = tuple(stage for stage in STAGES if stage != "one")


def make_config(method: str, seed: int, **overrides: Any) -> Any:
    """The configuration of one run; "__" in a key stands for a dot."""
    config = configs.default()
    config.method, config.seed = method, seed
    config.data.imbalance_factor = IMBALANCE
    for key, value in overrides.items():
        configs.put(config, key.replace("__", "."), value)
    return config


class Seed:
    """The runs of one seed, each in its own folder; stage one is trained once."""

    def __init__(self, seed: int, folder: Path):
        self.seed, self.folder = seed, folder

    def _run(self, name: str, config: Any) -> dict[str, Any]:
        return run(config, self.folder / name, watcher=SilentWatcher()).result

    def stage_one(self, **overrides: Any) -> Path:
        """Workdir of plain cross entropy, trained at the first call."""
        name = "ce" + "_held_out" * bool(overrides)
        self._run(name, make_config("ce", self.seed, **overrides))
        return self.folder / name

    def tau(self) -> float:
        """tau of tau_norm: chosen on a fifth of the training images, which stage one lacked."""
        held_out = {"data__validation_fraction": HELD_OUT}
        start = str(self.stage_one(**held_out))
        config = make_config("ce", self.seed, stage="tau_norm", init_from=start, **held_out)
        return self._run("choose_tau", config)["stage"]["tau"]

    def row(self, name: str) -> dict[str, Any]:
        """The result of a method, or of a stage two on cross entropy."""
        if name not in TWO_STAGES:
            result = self._run(name, make_config(name, self.seed))
            return {**result["test"], "seconds": result["train"]["seconds"]}
        overrides: dict[str, Any] = {"stage": name, "init_from": str(self.stage_one())}
        if name in TRAINED:
            overrides |= {"train__epochs": 10, "optimizer__warmup_epochs": 0}
        if name == "tau_norm":
            overrides["decoupled__tau"] = self.tau()
        result = self._run(name, make_config("ce", self.seed, **overrides))
        facts = {k: v for k, v in result["stage"].items() if k == "tau"}
        return {**result["test"], "seconds": result["train"]["seconds"], **facts}


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Mean ± sample standard deviation over the seeds, and the gain over `ce`, as Markdown."""
    lines = [
        "| method | "
        + " | ".join(c.replace("_accuracy", "") for c in COLUMNS)
        + " | gain over `ce` | seconds |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    base = np.array([r["balanced_accuracy"] for r in rows["ce"]])
    for name, results in rows.items():
        cells = []
        for column in COLUMNS:
            values = [r[column] for r in results if r[column] is not None]
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            cells.append(f"{np.mean(values):.4f} ± {spread:.4f}" if values else "–")
        gain = np.array([r["balanced_accuracy"] for r in results]) - base
        better = int((gain > 0).sum())
        cells.append(f"{gain.mean():+.4f} ({better} of {len(gain)})" if name != "ce" else "")
        seconds = np.median([r["seconds"] for r in results])
        shown = f"`ce` + `{name}`" if name in TWO_STAGES else f"`{name}`"
        lines.append(f"| {shown} | {' | '.join(cells)} | {seconds:.1f} |")
    return "\n".join(lines)


def write(out: Path, seeds: list[int], rows: dict[str, list[dict[str, Any]]]) -> None:
    """Writes the rows so far, and their table."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "command": "python -m experiments.decoupled.run --out experiments/decoupled/results",
        "seeds": seeds,
        "imbalance_factor": IMBALANCE,
        "versions": versions(jax.local_devices(), jax.local_device_count()),
        "rows": rows,
    }
    (out / "decoupled.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "table.md").write_text(table(rows) + "\n")


def main() -> None:
    """Runs the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    others = [name for name in METHODS if name != "ce"]
    parser.add_argument("--rows", nargs="+", default=[*TWO_STAGES, *others])
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--work", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", configs.default().cpu_devices)
    jax.config.update("jax_compilation_cache_dir", str(Path(tempfile.gettempdir()) / "ltjax-xla"))
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        seeds = [Seed(seed, (args.work or Path(folder)) / str(seed)) for seed in args.seeds]
        for name in ["ce", *args.rows]:
            rows[name] = [seed.row(name) for seed in seeds]
            shown = table({"ce": rows["ce"], name: rows[name]}).splitlines()[-1]
            print(shown, flush=True)
            if args.out:
                write(args.out, args.seeds, rows)
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
