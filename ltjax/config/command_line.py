"""The configuration of a command: a file with get_config(), and flags --config.KEY=VALUE."""

import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from ltjax.errors import InputError, one_line

USAGE = "python -m ltjax.main --config configs/digits_lt.py [--workdir DIR] [--config.KEY=VALUE]"


def parse_flags(
    values: flags.FlagValues, argv: Sequence[str], *, known_only: bool = False
) -> list[str]:
    """Parses arguments.

    Args:
      values: the flags, which are set.
      argv: program name and arguments.
      known_only: leave flags that are not in `values` alone.

    Returns:
      The program's name and what is no flag of `values`.

    Raises:
      InputError: a flag that does not exist, or a value that it cannot have.
    """
    try:
        return list(values(list(argv), known_only=known_only))
    except (flags.Error, ValueError, TypeError, ArithmeticError) as e:
        raise InputError(one_line(e, most=500)) from e


def read_config_file(path: str | None) -> ConfigDict:
    """Runs a config file.

    Args:
      path: of a Python file with get_config(); an argument of get_config may follow a colon.

    Returns:
      What get_config() returns.

    Raises:
      InputError: there is no such file, or it does not end with a configuration.
    """
    if not path:
        raise InputError(f"--config is missing; usage: {USAGE}")
    file = Path(path.split(":")[0])
    try:
        if file.exists() and not file.is_file():  # reading a pipe would wait for ever
            raise InputError(f"{file} is not a file")
        config = ConfigFileFlagParser("config", lock_config=False).parse(path)
        if not isinstance(config, ConfigDict):
            getattr(
                config, "keys", None
            )  # ml_collections raises only now if it could not load the file
            raise InputError(f"get_config() of {file} returns no ConfigDict")
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # whatever the file raises, also SystemExit
        raise InputError(
            f"config file: {one_line(_cause(e, file), most=500)}; give a Python file with "
            "get_config(), such as configs/digits_lt.py"
        ) from e
    return config


def _cause(error: BaseException, file: Path) -> str:
    """What a config file raised, and its line there; ml_collections wraps it in a traceback."""
    found: BaseException | None = error
    while found is not None:
        frames = traceback.extract_tb(found.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename).resolve() == file.resolve()]
        if lines:
            return f"{file}, line {lines[-1]}: {type(found).__name__}: {found}"
        found = found.__cause__ or found.__context__
    return str(error)


def override(config: ConfigDict, changes: Sequence[str]) -> ConfigDict:
    """Changes a configuration by flags.

    Args:
      config: the configuration.
      changes: program name and flags --config.KEY=VALUE, the only ones.

    Returns:
      The changed configuration; `resolve` checks it.

    Raises:
      InputError: a flag that names nothing, a value of another type, or an argument that is none.
    """
    values = flags.FlagValues()
    try:
        # New keys are accepted here and refused by `resolve`, which suggests the right one.
        config_flags.DEFINE_config_dict(
            "config",
            config,
            flag_values=values,
            lock_config=False,
            accept_new_attributes=True,
            sys_argv=list(changes),
        )
    except (KeyError, AttributeError) as e:  # a section that does not exist
        raise InputError(
            f"a flag --config.KEY=VALUE names no key or section of the configuration "
            f"({one_line(e, most=500)}); the keys are listed in docs/config.md"
        ) from e
    except (flags.Error, TypeError, ValueError, ArithmeticError) as e:
        raise InputError(f"a flag --config.KEY=VALUE: {one_line(e, most=500)}") from e
    rest = parse_flags(values, changes)[1:]
    if rest:
        raise InputError(f"argument {rest[0]!r} is not a flag; usage: {USAGE}")
    changed: ConfigDict = values.config
    return changed
