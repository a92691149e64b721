"""The command line: train a network, then evaluate it, predict or embed with it, or export it.

ltjax --config RECIPE [--data DIR] [--workdir DIR] [--config.KEY=VALUE]
ltjax --mode=evaluate --workdir DIR [--config.data.KEY=VALUE] [--output FILE]
ltjax --mode=predict --workdir DIR --input PATH --output FILE
ltjax --mode=embed --workdir DIR --input PATH --output FILE
ltjax --mode=embed --weights NAME --input PATH --output FILE
ltjax --mode=export --workdir DIR --output DIR
ltjax explain KEY
"""

# The standard library only: `console` sets the environment before NumPy is imported.
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from absl import flags

    from ltjax.config import Config
    from ltjax.training.run import RunOutcome


def console() -> None:
    """Entry point of the program: the command `ltjax`, `python -m ltjax[.main]`."""
    # Must come before NumPy and SciPy are imported: with several OpenBLAS threads on a busy CPU
    # the small eigendecompositions of whitening take up to 200 times longer.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from ltjax.kernels.allocator import keep_memory
    from ltjax.training.streams import flushed, open_streams

    open_streams()
    try:
        keep_memory()  # before JAX's backend starts
        code = flushed(main())
    except KeyboardInterrupt:  # while modules were loaded, or while the process ended
        code = 130
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to do but to end
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: program name and arguments; None takes `sys.argv`.

    Returns:
      0 on success, 2 for input that cannot be used (one line on stderr), 130 on Ctrl-C; see
      `ltjax.errors.Interrupted` for the other signals.
    """
    from ltjax.training.ending import orderly

    return orderly(lambda: _run(sys.argv if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    from ltjax.errors import InputError, Interrupted, needs_train_extra

    with needs_train_extra("The command line"):
        from ltjax import config as configs
        from ltjax.config.command_line import (
            override,
            parse_flags,
            place_data,
            read_config_file,
        )
        from ltjax.config.modes import check_flags
        from ltjax.training.ending import asked
    if list(argv[1:2]) == ["explain"]:
        from ltjax.config.explain import explain

        print("\n\n".join(map(explain, argv[2:] or ["method"])))
        return 0
    given = _define_flags()
    changes = parse_flags(given, argv, known_only=True)  # what is left: --config.KEY=VALUE
    if _informs(given):
        return 0
    check_flags(given)
    if given.mode == "train":
        config = place_data(read_config_file(given.config), given.data)
        config = configs.resolve(override(config, changes))
    elif given.weights:
        if given.workdir or given["checkpoint"].present or changes[1:]:
            raise InputError(
                "--weights goes with --mode=embed, without --workdir, --checkpoint and "
                "--config.KEY, which are of a run"
            )
        config = configs.resolve(configs.default())  # nothing of it is used
    elif not given.workdir:
        raise InputError("--workdir is missing; give the workdir of a finished run")
    else:
        config = _stored_config(given.workdir, changes)
        if given.mode != "evaluate" and changes[1:]:
            raise InputError(
                f"--config.KEY=VALUE does not go with --mode={given.mode}, which reads no data set "
                "of the configuration; leave it out"
            )
    try:
        with asked(resumes=given.mode == "train"):
            MODES[given.mode](given, config)
    except Interrupted as e:
        e.exit_code = e.exit_code or given.stopped_code
        raise
    return 0


def _informs(given: "flags.FlagValues") -> bool:
    """Prints what is asked for instead of a run, if anything is."""
    from ltjax import __version__
    from ltjax.config.command_line import recipe_list
    from ltjax.config.explain import screen

    if given.help:
        print(screen(), end="")
    elif given.helpfull:
        print(f"{__doc__}\nFlags:\n{given.get_help()}")
    elif given.version:
        print(f"ltjax {__version__}")
    elif given["list-configs"].value:
        print(recipe_list())
    else:
        return False
    return True


def _define_flags() -> "flags.FlagValues":
    """The flags but --config.KEY, in a set of their own: absl's global one stays as it is."""
    from absl import flags

    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_bool("help", False, "Show the first screen of help.", short_name="h", **own)
    flags.DEFINE_bool("helpfull", False, "Show every flag.", **own)
    flags.DEFINE_bool("version", False, "Show the version.", **own)
    flags.DEFINE_bool("list-configs", False, "List the recipes.", **own)
    flags.DEFINE_enum("mode", "train", list(MODES), "What to do.", **own)
    flags.DEFINE_string(
        "config",
        None,
        "train: a recipe, or a file with get_config(); --config.KEY=VALUE changes a key.",
        **own,
    )
    flags.DEFINE_string(
        "data", None, "train: folder of the data, an .npz file, or a list of images.", **own
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the run, also gs:// or s3://; when training, by default "
        "runs/CONFIG-METHOD[-STAGE]-seedSEED.",
        **own,
    )
    _define_serving_flags(own)
    flags.DEFINE_integer(
        "stopped_code",
        0,
        "train: exit code after SIGTERM or SIGHUP; not 0 where a scheduler starts again only what "
        "failed.",
        lower_bound=0,
        upper_bound=255,
        **own,
    )
    flags.DEFINE_bool("distributed", False, "Train on several hosts together.", **own)
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT of process 0; else from the environment.", **own
    )
    flags.DEFINE_integer("num_processes", None, "Number of processes.", **own)
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", **own)
    return values


def _define_serving_flags(own: dict[str, Any]) -> None:
    """The flags of what a finished run is used for."""
    from absl import flags

    flags.DEFINE_string(
        "weights", None, "embed: name of a pretrained backbone, instead of a --workdir.", **own
    )
    flags.DEFINE_string(
        "input",
        None,
        "predict, embed: an image, a folder, a list or an .npz file; a file of features.",
        **own,
    )
    flags.DEFINE_string(
        "output",
        None,
        "evaluate: a .json file; predict: .csv or .jsonl; embed: .parquet, .npz or .safetensors; "
        "export: a folder.",
        **own,
    )
    flags.DEFINE_enum(
        "checkpoint",
        "result",
        ["result", "best"],
        "evaluate, predict, embed, export: the network of result.json, or the best on held-out "
        "images.",
        **own,
    )
    flags.DEFINE_string(
        "target_prior",
        None,
        "evaluate, predict: class distribution to adjust to: uniform, train, numbers, a .json.",
        **own,
    )
    flags.DEFINE_enum(
        "format",
        "stablehlo",
        ["stablehlo", "onnx", "safetensors"],
        "export: onnx writes model.onnx besides; safetensors only what ltjax needs, no program.",
        **own,
    )
    flags.DEFINE_integer("top_k", 5, "predict: number of classes to list per image.", **own)
    flags.DEFINE_list("platforms", ["cpu"], "export: some of cpu, cuda, rocm, tpu.", **own)


def _stored_config(workdir: str, changes: Sequence[str]) -> "Config":
    """The configuration of a finished run, changed by flags --config.data.KEY=VALUE."""
    from ltjax import config as configs
    from ltjax.config.command_line import override
    from ltjax.data.places import unread_by
    from ltjax.errors import InputError
    from ltjax.training.workdir import read_finished

    stored = read_finished(workdir).config
    changed, before = override(configs.as_config_dict(stored), changes), stored.flat()
    # Before `resolve`, which would replace a given seed by the first of the stored seeds.
    for key, value in configs.flatten(changed).items():
        if value != before.get(key, value) and not key.startswith("data."):
            raise InputError(
                f"config.{key} cannot be changed after training; only config.data keys can"
            )
    for place, not_given in unread_by(changed.data.name).items():
        if changed.data[place] == before[f"data.{place}"]:
            changed.data[place] = not_given  # another source than the stored one does not read it
    return configs.resolve(changed)


def _train(given: "flags.FlagValues", config: "Config") -> None:
    from ltjax.errors import InputError

    hosts = (given.coordinator_address, given.num_processes, given.process_id)
    if not given.distributed and any(value is not None for value in hosts):
        raise InputError(
            "--coordinator_address, --num_processes and --process_id are of --distributed; add it, "
            "or leave them out: without it every process trains alone"
        )
    workdir = given.workdir or _default_workdir(given.config, config)
    _start_jax(config.cpu_devices)
    from ltjax.training.hosts import joined
    from ltjax.training.run import run
    from ltjax.training.store import kept

    with contextlib.ExitStack() as until_reported:
        together = joined(*hosts, stopped_code=given.stopped_code) if given.distributed else None
        with together or contextlib.nullcontext():
            outcome = run(config, until_reported.enter_context(kept(workdir)))
        if outcome.chief:
            _report(outcome, workdir)


def _report(outcome: "RunOutcome", workdir: str) -> None:
    from ltjax.errors import one_line
    from ltjax.report.build import write  # figures need a second to load: after the training
    from ltjax.report.terminal import print_table

    if outcome.finished_before:
        print(f"{one_line(workdir)} is finished already, its data was not read again; its result:")
    if not outcome.finished_before or not (outcome.workdir / "report.html").exists():
        try:
            write(outcome.workdir)
        except OSError as e:  # the result is there, and the same command makes the report later
            print(f"ltjax: the report cannot be written ({e})", file=sys.stderr)
    print_table(outcome.workdir)


def _default_workdir(file: str, config: "Config") -> str:
    name = Path(file.split(":")[0]).stem
    stage = "" if config.stage == "one" else f"-{config.stage}"
    return f"runs/{name}-{config.method}{stage}-seed{config.seed}"


def _serve(given: "flags.FlagValues", config: "Config") -> None:
    """What a finished run is used for."""
    _start_jax(1)
    from ltjax.serving.commands import COMMANDS

    COMMANDS[given.mode](given, config)


MODES: dict[str, Callable[["flags.FlagValues", "Config"], None]] = {
    "train": _train,
    "evaluate": _serve,
    "predict": _serve,
    "embed": _serve,
    "export": _serve,
}


def _start_jax(cpu_devices: int) -> None:
    from ltjax.training.backend import start_jax

    start_jax(cpu_devices)


if __name__ == "__main__":
    console()
