"""One call runs a training, stage one or two: it trains, resumes, or finds the run finished."""

import contextlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ltjax import config as configs
from ltjax.config import Config
from ltjax.models import TAKE_FEATURES
from ltjax.samplers.counting import sentence
from ltjax.training import decoupled, finetune, given, held_out, identity
from ltjax.training.backend import offer_devices
from ltjax.training.budget import settle
from ltjax.training.build import Job, build
from ltjax.training.describe import describe_data, versions
from ltjax.training.devices import Mapping, choose_devices, choose_engine
from ltjax.training.loop import Loop
from ltjax.training.multi_seed import Seeds
from ltjax.training.native import began_native
from ltjax.training.progress import SilentWatcher, Watcher, default_watcher
from ltjax.training.provenance import configuration_digest
from ltjax.training.result import command_line, final_scores, write_details
from ltjax.training.store import kept
from ltjax.training.workdir import Workdir, write_json


class RunOutcome(NamedTuple):
    """What `run` returns.

    Attributes:
      workdir: folder of the run; of one in an object store, its copy on this machine.
      result: content of its `result.json`.
      finished_before: whether the run was finished already.
      chief: whether this host is the one that writes.
    """

    workdir: Path
    result: dict[str, Any]
    finished_before: bool
    chief: bool = True


def run(
    config: Config | ConfigDict, workdir: str | Path, *, watcher: Watcher | None = None
) -> RunOutcome:
    """Trains and evaluates, or resumes, or finds the run finished; writes `result.json`.

    Args:
      config: `ltjax.config.default()` with overrides. With a `stage` other than "one",
        `init_from` is the workdir of a finished stage one of the same data, model and whitening.
      workdir: folder of the run, or a URL such as `gs://bucket/run`; the same call on the same
        folder resumes it.
      watcher: shows progress; by default a bar on a terminal and lines elsewhere.

    Returns:
      The folder and the content of `result.json`.

    Raises:
      InputError: bad input; nothing of an earlier run is overwritten.
      Interrupted: SIGTERM, SIGHUP or SIGINT came; a checkpoint has been written.

    Source: ours.
    """
    config = configs.resolve(config)
    mapping = _mapping(config)
    configs.check_devices(config, mapping.count)
    with kept(workdir) as path:
        return _run(config, path, mapping, watcher)


def _run(config: Config, workdir: Path, mapping: Mapping, watcher: Watcher | None) -> RunOutcome:
    """The run in a folder of this machine."""
    config, data, length = settle(config, workdir, mapping)
    first, folder = None, Workdir(workdir, config)
    if config.stage != "one" and not folder.result.exists():
        first = decoupled.read_stage_one(config)
    if (result := folder.finished()) is not None:
        return RunOutcome(folder.path, result, True, mapping.chief)
    job = build(config, data=data, began_native=began_native(folder.checkpoints))
    decoupled.check_held_out(config, job.data.validation)
    held_out.check(config, job.data.validation)
    with folder.held() if mapping.chief else contextlib.nullcontext():
        if (result := folder.finished()) is not None:  # by another process, meanwhile
            return RunOutcome(folder.path, result, True, mapping.chief)
        watcher = (watcher or default_watcher()) if mapping.chief else SilentWatcher()
        mapping.meet()
        seeds = Seeds(job, mapping)
        content, dataset = identity.content(job), folder.path / "dataset.json"
        description = describe_data(job, config, content)
        loop = Loop(config, job, seeds, folder, watcher, content)
        if not loop.restore():
            if first is not None:
                loop.begin(*decoupled.begin(first, config, seeds))
            elif config.model.given:
                loop.begin(given.begin(job), {})
            elif finetune.begins(config):
                loop.begin(finetune.begin(config, seeds), {})
        for line in filter(None, (length, *job.data.notes)):
            watcher.note(line)
        if job.native.reason:
            watcher.note(f"native kernels are not used{job.native.because}")
        if mapping.chief:
            identity.check_dataset(dataset, description)
            write_json(dataset, description)
            watcher.note(sentence(description["exposure"], description["class_names"]))
        about = versions(mapping.devices, mapping.count)  # of the code as it is now
        loop.train()
        return RunOutcome(folder.path, _finish(config, job, loop, about), False, mapping.chief)


def _mapping(config: Config) -> Mapping:
    offer_devices(config.cpu_devices)
    devices = choose_devices(config.cpu_devices)
    convolves = config.model.name not in TAKE_FEATURES
    engine = choose_engine(devices[0].platform, convolves=convolves)
    return Mapping(devices, backend=config.engine.mapping, engine=engine)


def _finish(config: Config, job: Job, loop: Loop, about: dict[str, str]) -> dict[str, Any]:
    """Evaluates the final states; writes `result.json` and what the report draws."""
    seeds, mapping, clock, path = loop.seeds, loop.mapping, loop.clock, loop.folder.path
    tested, outputs = final_scores(seeds, config.evaluation.thresholds)
    kernels = {"kernels": "native" if job.native.used else "XLA"}
    result = {
        **tested,
        "train": {
            "class_counts": job.data.train.class_counts.tolist(),
            "steps": loop.step,
            "epochs": loop.step // job.steps_per_epoch,
            "kept_step": loop.kept_step,
            "images_per_second": clock.images / clock.seconds if clock.images else None,
            "seconds": clock.seconds,
            "skipped_updates": loop.skipped,
            "damaged_images": seeds.damaged,
        },
        **({"best": loop.best._asdict()} if loop.best else {}),
        "method": config.method,
        "stage": {"name": config.stage, **loop.facts},
        "seed": config.seed,
        "configuration": configuration_digest(config),
        "command": command_line(sys.argv),
        "versions": about | kernels,
    }
    if mapping.chief:
        write_details(path, job.data.test, outputs[0], seeds.state_of(0).variables["params"])
        write_json(loop.folder.result, result)
    return result
