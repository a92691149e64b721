"""The command line: train, and evaluate, predict with or export what was trained.

python -m ltjax.main --config configs/digits_lt.py [--workdir DIR] [--config.KEY=VALUE]
python -m ltjax.main --mode=evaluate --workdir DIR [--config.data.KEY=VALUE] [--output FILE]
python -m ltjax.main --mode=predict --workdir DIR --input PATH --output FILE
python -m ltjax.main --mode=export --workdir DIR --output DIR
"""

import os

# Before NumPy and SciPy start: OpenBLAS threads on a busy CPU make the small eigen-
# decompositions of whitening up to 200 times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hashlib
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from ltjax import config as configs
from ltjax.config import Config
from ltjax.errors import InputError, Interrupted
from ltjax.serving.modes import MODES, Request, overrides, serve

_CONFIG = config_flags.DEFINE_config_file("config", None, lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; by default runs/CONFIG-METHOD[-STAGE]-seedSEED."
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", *MODES], "What to do.")
_INPUT = flags.DEFINE_string("input", None, "predict: a picture, a folder or an .npz file.")
_OUTPUT = flags.DEFINE_string("output", None, "predict: .csv or .jsonl; export: a folder.")
_TOP_K = flags.DEFINE_integer("top_k", 5, "predict: classes per picture.")
_PLATFORMS = flags.DEFINE_list("platforms", ["cpu"], "export: some of cpu, cuda, rocm, tpu.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Train on several hosts together.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0; by default from the environment."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")

USAGE = "python -m ltjax.main --config configs/digits_lt.py [--workdir DIR] [--config.KEY=VALUE]"


def _parse(argv: Sequence[str]) -> Any:
    """Parses flags; whatever is wrong with them becomes an `InputError`."""
    try:
        rest = flags.FLAGS(list(argv))
        config = _CONFIG.value
        if config is not None:
            config.keys()  # a config file that failed to load raises here, not above
    except flags.Error as e:
        raise InputError(_one_line(str(e))) from e
    except (AttributeError, KeyError) as e:
        # What ml_collections raises for a key that the locked configuration lacks.
        key = _unknown_key(argv)
        if key is None:
            raise InputError(f"config file: {_one_line(str(e))}") from e
        raise InputError(f"config.{key} is not a key; {configs.suggestion(key)}") from e
    except Exception as e:
        raise InputError(
            f"config file: {_one_line(str(e))}; give a Python file with get_config(), such as "
            "configs/digits_lt.py"
        ) from e
    if len(rest) > 1:
        raise InputError(f"argument {rest[1]!r} is not a flag; usage: {USAGE}")
    if config is None and _MODE.value == "train":
        raise InputError(f"--config is missing; usage: {USAGE}")
    return config


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _unknown_key(argv: Sequence[str]) -> str | None:
    for arg in argv[1:]:
        name = arg.lstrip("-").split("=")[0]
        if name.startswith("config.") and name[7:] not in configs.SCHEMA:
            return name[7:]
    return None


def _default_workdir(config: Config) -> str:
    file = Path(next(iter(config_flags.get_config_filename(flags.FLAGS["config"]).split(":"))))
    stage = "" if config.stage == "one" else f"-{config.stage}"
    return f"runs/{file.stem}-{config.method}{stage}-seed{config.seed}"


def _start_jax(count: int) -> None:
    """Sets the number of host devices, which JAX reads once, and its compilation cache."""
    import jax

    if not getattr(jax.config, "jax_compilation_cache_dir", None):  # JAX_COMPILATION_CACHE_DIR
        jax.config.update("jax_compilation_cache_dir", str(_cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)


def _cache_folder() -> Path:
    """Where compiled programs are kept, apart for every kind of CPU: they hold its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    kind = [platform.processor(), *sorted({x for x in lines if x.startswith(("model", "flags"))})]
    name = hashlib.sha256("".join(kind).encode()).hexdigest()[:8]
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "ltjax" / f"xla-{platform.machine()}-{name}"


def _run(argv: Sequence[str]) -> int:
    argv, changes = overrides(argv)
    parsed = _parse(argv)
    if _MODE.value != "train":
        _start_jax(1)
        request = Request(_MODE.value, _WORKDIR.value, _INPUT.value, _OUTPUT.value)
        serve(request, changes, top_k=_TOP_K.value, platforms=_PLATFORMS.value)
        return 0
    config = configs.resolve(parsed)
    workdir = _WORKDIR.value or _default_workdir(config)
    _start_jax(config.cpu_devices)
    from ltjax.training.decoupled import run
    from ltjax.training.devices import connect

    if _DISTRIBUTED.value:
        connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    outcome = run(config, workdir)
    if not outcome.chief:
        return 0
    from ltjax.report.build import write  # figures need a second to load: after the training
    from ltjax.report.terminal import print_table

    if outcome.finished_before:
        print(f"{workdir} is finished already; its result:")
    if not outcome.finished_before or not (outcome.workdir / "report.html").exists():
        write(outcome.workdir)
    print_table(outcome.workdir)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
      0 on success, 2 for input that cannot be used (one line on stderr), 130 on Ctrl-C.
    """
    argv = sys.argv if argv is None else argv
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # told in one line instead
    app.define_help_flags()
    try:
        return _run(argv)
    except InputError as e:
        print(f"ltjax: error: {e}", file=sys.stderr)
    except OSError as e:
        where = f" {e.filename}" if e.filename else ""
        print(
            f"ltjax: error: {e.strerror or e}{where}; make room or choose another --workdir, "
            "then give the same command to resume",
            file=sys.stderr,
        )
    except Interrupted as e:
        print(f"ltjax: {e}; the same command resumes", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print("ltjax: interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 2


def console() -> None:
    """Entry point of the console command `ltjax`."""
    sys.exit(main())


if __name__ == "__main__":
    console()
