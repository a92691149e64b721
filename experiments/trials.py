"""Training runs by protocol, row and seed, for the experiments on accuracy.

Finished runs lie in a CSV file (`experiments.store`) and are not run again, so that every
experiment takes up where it was stopped. Where there is only a CPU, runs go to processes of one
core each.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import contextlib
import ctypes
import importlib
import json
import multiprocessing
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from experiments import records
from experiments.protocols import CLASSICAL, HELD_OUT, PROTOCOLS, Protocol, Trial, make_config
from experiments.store import SCORES, Curve, Result, Run, Store
from ltjax.errors import InputError
from ltjax.kernels.allocator import give_back, keep_memory

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class Extras(NamedTuple):
    """What is kept of a run besides its scores and diagnostics.

    Attributes:
      probe: `MODULE:FUNCTION`, which measures a finished run's workdir: columns of its own.
      curve: columns of metrics.jsonl to keep of the evaluations during training.
    """

    probe: str | None = None
    curve: tuple[str, ...] = ()


class Runner:
    """The runs of one seed, in one folder; stage one is trained once for all its second stages.

    Args:
      protocol: what all rows share.
      folder: where the runs' workdirs go.
      data_dir: folder of the prepared TFDS data sets.
      extras: what is kept besides.
    """

    def __init__(
        self, protocol: Protocol, folder: Path, data_dir: str = "", extras: Extras | None = None
    ):
        self.protocol, self.folder, self.data_dir = protocol, folder, data_dir
        self.extras = extras or Extras()

    def __call__(self, trial: Trial) -> Run:
        """Trains a row with a seed."""
        if trial.row in CLASSICAL:
            from experiments.classical import classical

            found = classical(trial.row, self._config(trial))
            return Run(_present(found, (*SCORES, "seconds")), [], kernels="scikit-learn")
        name = f"{trial.row} {trial.seed}"
        if trial.first is None:
            return self._run(name, self._config(trial))
        start = str(self._stage_one(trial.first))
        tau = self._tau(trial, trial.first) if trial.overrides["stage"] == "tau_norm" else None
        return self._run(name, self._config(trial, init_from=start, tau=tau))

    def _config(self, trial: Trial, **more: Any) -> ml_collections.ConfigDict:
        config = make_config(self.protocol, trial, self.data_dir, **more)
        if self.protocol.prepare is not None:
            config.data.path = str(self.protocol.prepare())
        return config

    def _run(self, name: str, config: ml_collections.ConfigDict) -> Run:
        from ltjax.training.progress import SilentWatcher
        from ltjax.training.run import run

        workdir = self.folder / name.replace("/", "_")
        result = run(config, workdir, watcher=SilentWatcher()).result
        found = _present(result["test"], SCORES)
        found["seconds"] = result["train"]["seconds"]
        if "validation" in result:
            found["held_out"] = result["validation"]["balanced_accuracy"]
        if "tau" in result["stage"]:
            found["tau"] = result["stage"]["tau"]
        found |= _scalars(json.loads((workdir / "diagnostics.json").read_text()))
        if self.extras.probe is not None:
            module, function = self.extras.probe.split(":")
            found |= getattr(importlib.import_module(module), function)(workdir)
        curve = _curve(workdir / "metrics.jsonl", self.extras.curve)
        fixed = self.protocol.split_ratio is None
        correct = _correct(workdir / "predictions.npz") if fixed else None
        return Run(found, curve, correct, result["versions"]["kernels"])

    def _stage_one(self, first: Trial, **more: Any) -> Path:
        name = f"{first.row}{' held out' * bool(more)} {first.seed}"
        if not (self.folder / name / "result.json").exists():
            self._run(name, self._config(first, **more))
        return self.folder / name

    def _tau(self, trial: Trial, first: Trial) -> float:
        """tau of tau_norm: chosen on a fifth of the training images, which its stage one lacked."""
        start = str(self._stage_one(first, validation_fraction=HELD_OUT))
        config = self._config(trial, init_from=start, validation_fraction=HELD_OUT)
        return self._run(f"choose tau {trial.seed}", config).result["tau"]


def _present(found: dict[str, Any], names: Sequence[str]) -> Result:
    """The columns that have a value; a group of classes that the data lack has none."""
    return {name: found[name] for name in names if found[name] is not None}


def _correct(path: Path) -> np.ndarray:
    """Which of a class's test images are classified correctly, bool `[C, n]`, in their order."""
    with np.load(path) as found:
        labels, predictions = found["labels"], found["predictions"]
    order = np.argsort(labels, kind="stable")
    return (labels == predictions)[order].reshape(len(np.unique(labels)), -1)


def _scalars(diagnostics: dict[str, dict[str, Any]]) -> Result:
    """The diagnostics that are one number each."""
    return {
        f"{part}/{name}": float(f"{value:.6g}") if isinstance(value, float) else value
        for part, found in diagnostics.items()
        for name, value in found.items()
        if isinstance(value, int | float)
    }


def _curve(log: Path, columns: Sequence[str]) -> Curve:
    """Some columns of what was logged at the evaluations during training."""
    if not columns or not log.exists():
        return []
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    named = [{k.removeprefix("diagnostics/"): v for k, v in line.items()} for line in lines]
    return [
        {"step": line["step"], **{column: float(f"{line[column]:.5g}") for column in columns}}
        for line in named
        if "test/balanced_accuracy" in line
    ]


def _start_worker(cores: "Queue[int] | None") -> None:
    """Gives a process a core of its own, before JAX starts its threads."""
    if sys.platform == "linux":  # when its parent is killed, nobody else would end its run
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if cores is not None:
        os.sched_setaffinity(0, {cores.get()})
    keep_memory()
    import jax

    jax.config.update("jax_num_cpu_devices", 1)
    cache = Path(tempfile.gettempdir()) / "ltjax-xla"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _work(
    protocol: str,
    trials: Sequence[Trial],
    data_dir: str,
    extras: Extras,
    workdirs: Path | None = None,
    scratch: str | None = None,
) -> tuple[list[tuple[Trial, Run]], records.Line]:
    """Results of the trials of one seed that share a folder, and what computed them."""
    import jax

    about = records.environment(f"1 x {jax.local_devices()[0].device_kind}")
    place = contextlib.nullcontext(workdirs / protocol) if workdirs else None
    with place or tempfile.TemporaryDirectory(dir=scratch) as folder:
        runner = Runner(PROTOCOLS[protocol], Path(folder), data_dir, extras)
        results = [(trial, runner(trial)) for trial in trials]
    # A worker would keep the programs of all its runs; after a hundred of them memory maps run out.
    jax.clear_caches()
    give_back()
    return results, about


def missing(trials: Iterable[Trial], store: Store) -> list[list[Trial]]:
    """The trials to run, in groups that share a network: a stage one and its second stages.

    Where a second stage is to be run, its stage one is trained and stored too, and the other
    second stages that are stored are run again on the same network: what a table shows of a
    network and of what stands on it is of one training.

    Args:
      trials: those that are asked for.
      store: what is there already.
    """
    asked: dict[Trial, list[Trial]] = {}
    for trial in dict.fromkeys(trials):
        asked.setdefault(trial.first or trial, []).append(trial)
    groups = []
    for first, members in asked.items():
        rows = [row for row, seeds in store.rows.items() if first.seed in seeds]
        stored = [trial for row in rows if (trial := Trial(row, first.seed)).first == first]
        apart = any(not store.same_network(trial) for trial in stored)
        if apart or any(trial not in store for trial in members):
            groups.append(list(dict.fromkeys([first, *members, *stored])))
    return groups


def run_trials(
    trials: Iterable[Trial],
    store: Store,
    *,
    processes: int,
    data_dir: str = "",
    extras: Extras | None = None,
    workdirs: Path | None = None,
) -> None:
    """Runs what the store lacks, and prints a line for each.

    Args:
      trials: in order of importance.
      store: where results go.
      processes: at once; several have a core each.
      data_dir: folder of the prepared TFDS data sets.
      extras: what is kept of each run besides.
      workdirs: folder that keeps the runs, so that one that was stopped goes on from its last
        checkpoint; without it a run that was stopped begins again.

    Raises:
      InputError: the store holds results of another configuration or device.
    """
    groups = missing(trials, store)
    context = multiprocessing.get_context("spawn")
    cores = None
    if processes > 1 and hasattr(os, "sched_setaffinity"):
        cores = context.Queue()
        available = sorted(os.sched_getaffinity(0))
        for index in range(processes):
            cores.put(available[index % len(available)])
    with (
        tempfile.TemporaryDirectory() as scratch,  # of workers that may be killed
        ProcessPoolExecutor(processes, context, _start_worker, (cores,)) as pool,
    ):
        shared = data_dir, extras or Extras(), workdirs, scratch
        futures = [pool.submit(_work, store.protocol, group, *shared) for group in groups]
        try:
            for future in as_completed(futures):
                results, about = future.result()
                for trial, run in results:
                    store.put(trial, run, about)
                    print(
                        f"{store.protocol}  {trial.row}  seed {trial.seed}: "
                        f"{run.result['accuracy']:.4f} ({run.result['seconds']:.0f} s)",
                        flush=True,
                    )
        except BaseException:  # else the pool would first run all that waits, and keep none of it
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.kill()
            raise


def standard_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every experiment on accuracy takes."""
    parser.add_argument("--out", type=Path, default=None, help="folder of the stored results")
    parser.add_argument("--processes", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--data-dir", default="", help="folder of the prepared TFDS data sets")
    parser.add_argument(
        "--workdirs", type=Path, default=None, help="folder that keeps the runs, to resume them"
    )


def run_and_store(
    protocol: str,
    trials: Sequence[Trial],
    args: argparse.Namespace,
    parser: argparse.ArgumentParser,
    extras: Extras | None = None,
) -> Store:
    """The results of trials, those that are stored and those that are run now.

    Ends the program with one line and exit code 2 where the stored results are of another
    configuration or device, or where runs would be added to a row that other code has made; with
    exit code 1 where a process that trains was killed.
    """
    store = Store(args.out / f"{protocol}.csv" if args.out else None, protocol)
    try:
        added = [trial.row for group in missing(trials, store) for trial in group]
        store.check(list(dict.fromkeys(trial.row for trial in trials)), added)
        run_trials(
            trials,
            store,
            processes=args.processes,
            data_dir=args.data_dir,
            extras=extras,
            workdirs=args.workdirs,
        )
    except InputError as error:
        parser.exit(2, f"{error}\n")
    except BrokenProcessPool:
        kept = "the same command goes on after the runs stored" if args.out else "nothing is stored"
        parser.exit(1, f"a process that trains was killed, or there was no memory for it; {kept}\n")
    return store
