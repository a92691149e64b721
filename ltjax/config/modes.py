"""Which flags go with which `--mode` of the command line."""

from absl import flags

from ltjax.errors import InputError

_SERVE = ("evaluate", "predict", "embed", "export")
# The modes that read each flag. Flags that are not here go with every mode.
FLAG_MODES: dict[str, tuple[str, ...]] = {
    "config": ("train",),
    "data": ("train",),
    "stopped_code": ("train",),
    "distributed": ("train",),
    "coordinator_address": ("train",),
    "num_processes": ("train",),
    "process_id": ("train",),
    "weights": ("embed",),
    "input": ("predict", "embed"),
    "output": _SERVE,
    "checkpoint": _SERVE,
    "target_prior": ("evaluate", "predict"),
    "top_k": ("predict",),
    "format": ("export",),
    "platforms": ("export",),
}
_STORED = (
    "which uses the configuration of the run in --workdir; leave it out (--config.data.KEY=VALUE "
    "may change data keys)"
)
_OTHER_DATA = (
    "which scores the run's own test part; to score other data give --config.data.KEY=VALUE, such "
    "as --config.data.test_path=FILE, see docs/evaluation.md"
)
# What to do instead, by flag and mode; where nothing is said, the modes of the flag are named.
_INSTEAD: dict[tuple[str, str], str] = {
    **{("config", mode): _STORED for mode in _SERVE},
    ("data", "evaluate"): _OTHER_DATA,
    ("input", "evaluate"): _OTHER_DATA,
    ("data", "predict"): "which takes what it reads as --input",
    ("data", "embed"): "which takes what it reads as --input",
    ("weights", "train"): "which takes pretrained weights as --config.model.weights",
}


def check_flags(given: flags.FlagValues) -> None:
    """Refuses flags that the mode does not read, which would be ignored without a word.

    Args:
      given: the flags of the command, parsed.

    Raises:
      InputError: the first such flag, and what to do.
    """
    mode = given.mode
    for name, modes in FLAG_MODES.items():
        if not given[name].present or mode in modes:
            continue
        named = f"--mode={mode}" if given["mode"].present else f"--mode={mode} (the default)"
        words = ", ".join(f"--mode={other}" for other in modes)
        instead = _INSTEAD.get((name, mode), f"it goes with {words}")
        raise InputError(
            f"--{name} does not go with {named}{', ' if instead.startswith('which') else '; '}"
            f"{instead}"
        )
