"""Training runs by protocol, row and seed, stored one by one, for the experiments on accuracy.

A store is a JSON file; a run that is in it is not run again, so every experiment takes up where
it was stopped. Runs go to processes of one core each where there is only a CPU.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import ast
import importlib
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from experiments.protocols import CLASSICAL, PROTOCOLS, ROWS, Protocol, stage_one

COLUMNS = ("accuracy", "many", "medium", "few")
HELD_OUT = 0.2


class Trial(NamedTuple):
    """One training run.

    Attributes:
      row: a name of `ROWS`, or `NAME KEY=VALUE ...` with changes of configuration keys.
      seed: of split, plan, initialisation and augmentation.
    """

    row: str
    seed: int

    @property
    def overrides(self) -> dict[str, Any]:
        """Configuration keys and values."""
        name, *changes = self.row.split(" ")
        found = dict(ROWS[name])
        for change in changes:
            key, text = change.split("=", 1)
            try:
                found[key] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                found[key] = text
        return found

    @property
    def first(self) -> "Trial | None":
        """The run whose network it starts from, if it is of stage two."""
        row = stage_one(self.row.split(" ")[0])
        return None if row is None else Trial(row, self.seed)


def make_config(protocol: Protocol, trial: Trial, data_dir: str, **more: Any) -> Any:
    """The configuration of a run; "__" in a keyword stands for a dot."""
    from ltjax import config as configs

    config = protocol.make()
    changes = {"cpu_devices": 1, **protocol.overrides, "seed": trial.seed, "data.dir": data_dir}
    changes |= trial.overrides | {key.replace("__", "."): value for key, value in more.items()}
    for path, value in changes.items():
        configs.put(config, path, value)
    return config


class Runner:
    """The runs of one seed, in one folder; stage one is trained once for all its second stages."""

    def __init__(
        self,
        protocol: Protocol,
        folder: Path,
        data_dir: str,
        probe: str | None = None,
        *,
        course: bool = False,
    ):
        self.protocol, self.folder, self.data_dir = protocol, folder, data_dir
        self.probe, self.course = probe, course

    def __call__(self, trial: Trial) -> dict[str, Any]:
        """Scores, seconds and diagnostics."""
        if trial.row in CLASSICAL:
            from experiments.classical import classical

            config = make_config(self.protocol, trial, self.data_dir)
            found = classical(trial.row, config)
            return {name: found[name] for name in (*COLUMNS, "seconds")} | {"diagnostics": {}}
        more: dict[str, Any] = {}
        if trial.first:
            stage = trial.overrides["stage"]
            more["init_from"] = str(self._stage_one(trial.first))
            if stage in ("crt", "lws"):
                more |= {
                    "train__epochs": self.protocol.stage_two_epochs,
                    "optimizer__warmup_epochs": 0,
                }
            if stage == "tau_norm":
                more["decoupled__tau"] = self._tau(trial, trial.first)
        config = make_config(self.protocol, trial, self.data_dir, **more)
        return self._run(f"{trial.row} {trial.seed}", config)

    def _run(self, name: str, config: Any) -> dict[str, Any]:
        from ltjax.training.decoupled import run
        from ltjax.training.progress import SilentWatcher

        workdir = self.folder / name.replace("/", "_")
        result = run(config, workdir, watcher=SilentWatcher()).result
        diagnostics = json.loads((workdir / "diagnostics.json").read_text())
        found = {column: result["test"][column] for column in COLUMNS}
        found["seconds"] = result["train"]["seconds"]
        found["diagnostics"] = _scalars(diagnostics)
        if self.course:
            found["course"] = _course(workdir / "metrics.jsonl")
        if "tau" in result["stage"]:
            found["tau"] = result["stage"]["tau"]
        if self.probe is not None:
            module, function = self.probe.split(":")
            found["probe"] = getattr(importlib.import_module(module), function)(workdir)
        return found

    def _stage_one(self, first: Trial, **more: Any) -> Path:
        name = f"{first.row}{' held out' * bool(more)} {first.seed}"
        if not (self.folder / name / "result.json").exists():
            self._run(name, make_config(self.protocol, first, self.data_dir, **more))
        return self.folder / name

    def _tau(self, trial: Trial, first: Trial) -> float:
        """tau of tau_norm: chosen on a fifth of the training images, which its stage one lacked."""
        held_out = {"data__validation_fraction": HELD_OUT}
        start = str(self._stage_one(first, **held_out))
        config = make_config(self.protocol, trial, self.data_dir, init_from=start, **held_out)
        return self._run(f"choose tau {trial.seed}", config)["tau"]


def _scalars(diagnostics: dict[str, Any]) -> dict[str, Any]:
    """The diagnostics that are one number each."""
    return {
        f"{part}/{name}": float(f"{value:.6g}") if isinstance(value, float) else value
        for part, found in diagnostics.items()
        for name, value in found.items()
        if not isinstance(value, list)
    }


def _course(log: Path) -> list[dict[str, float]]:
    """What was logged at the evaluations during training."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [
        {
            key.removeprefix("diagnostics/"): float(f"{line[key]:.5g}")
            for key in line
            if key in ("step", "test/balanced_accuracy") or key.startswith("diagnostics/")
        }
        for line in lines
        if "test/balanced_accuracy" in line
    ]


def command(experiment: str, protocol: str) -> str:
    """What makes an experiment's stored results, for the JSON.

    >>> command("rival", "rival_digits")
    'python -m experiments.rival.run --protocol rival_digits --out experiments/rival/results'
    """
    data = " --data-dir TFDS_DIR" if "cifar" in protocol else ""
    made = f"experiments/{experiment}/results"
    return f"python -m experiments.{experiment}.run --protocol {protocol}{data} --out {made}"


class Store:
    """Results by row and seed in a JSON file, or in memory where `path` is None."""

    def __init__(self, path: Path | None, protocol: Protocol, command: str):
        self.path = path
        fixed = json.loads(json.dumps(protocol.describe()))
        self.content: dict[str, Any] = {"command": command, "protocol": fixed, "rows": {}}
        if path is not None and path.exists():
            found = json.loads(path.read_text())
            if found["protocol"] != fixed:
                sys.exit(f"{path} is of another protocol; give another --out")
            self.content["rows"] = found["rows"]
            self.content["versions"] = found["versions"]

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Results by row, then by seed (as text)."""
        return self.content["rows"]

    def __contains__(self, trial: Trial) -> bool:
        return str(trial.seed) in self.rows.get(trial.row, {})

    def put(self, trial: Trial, result: dict[str, Any], versions: dict[str, Any]) -> None:
        """Keeps a result, and writes the file anew."""
        self.content["versions"] = versions
        seeds = self.rows.setdefault(trial.row, {})
        seeds[str(trial.seed)] = result
        self.rows[trial.row] = dict(sorted(seeds.items(), key=lambda item: int(item[0])))
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(self.content, indent=1) + "\n")
            partial.replace(self.path)


def _start_worker(cores: Any) -> None:
    """Gives a process a core of its own, before JAX starts its threads."""
    if cores is not None:
        os.sched_setaffinity(0, {cores.get()})
    import jax

    jax.config.update("jax_num_cpu_devices", 1)
    cache = Path(tempfile.gettempdir()) / "ltjax-xla"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _work(
    protocol: str, trials: Sequence[Trial], data_dir: str, probe: str | None, course: bool
) -> tuple[list[Any], dict]:
    """Results of the trials of one seed that share a folder, and the versions."""
    import jax

    from ltjax.training.build import versions

    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(PROTOCOLS[protocol], Path(folder), data_dir, probe, course=course)
        results = [(trial, runner(trial)) for trial in trials]
    # A worker would keep the programs of all its runs; after a hundred of them memory maps run out.
    jax.clear_caches()
    return results, versions(jax.local_devices()[:1], 1)


def run_trials(
    protocol: str,
    trials: Iterable[Trial],
    store: Store,
    *,
    processes: int,
    data_dir: str = "",
    probe: str | None = None,
    course: bool = False,
) -> None:
    """Runs what the store lacks, and prints a line for each.

    Args:
      protocol: a name of `PROTOCOLS`.
      trials: in order of importance.
      store: where results go.
      processes: at once; several have a core each.
      data_dir: folder of the prepared TFDS data sets.
      probe: `MODULE:FUNCTION`, which measures a finished run's workdir; kept with its result.
      course: keep what was logged at the evaluations during training.
    """
    missing = [trial for trial in dict.fromkeys(trials) if trial not in store]
    groups: dict[Trial, list[Trial]] = {}
    for trial in missing:  # second stages share their stage one
        groups.setdefault(trial.first or trial, []).append(trial)
    context = multiprocessing.get_context("spawn")
    cores = None
    if processes > 1 and hasattr(os, "sched_setaffinity"):
        cores = context.Queue()
        available = sorted(os.sched_getaffinity(0))
        for index in range(processes):
            cores.put(available[index % len(available)])
    with ProcessPoolExecutor(processes, context, _start_worker, (cores,)) as pool:
        futures = [
            pool.submit(_work, protocol, group, data_dir, probe, course)
            for group in groups.values()
        ]
        try:
            for future in as_completed(futures):
                results, versions = future.result()
                for trial, result in results:
                    store.put(trial, result, versions)
                    print(
                        f"{protocol}  {trial.row}  seed {trial.seed}: {result['accuracy']:.4f} "
                        f"({result['seconds']:.0f} s)",
                        flush=True,
                    )
        except BaseException:  # else the pool would first run all that waits, and keep none of it
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def standard_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every experiment on accuracy takes."""
    parser.add_argument("--out", type=Path, default=None, help="folder of the stored results")
    parser.add_argument("--processes", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--data-dir", default="", help="folder of the prepared TFDS data sets")
