"""The configuration of a command: a recipe or a file, the place of the data, and single keys."""

import ast
import difflib
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from ltjax.config.schema import SCHEMA, put, suggestion
from ltjax.data.lists import LIST_ENDINGS
from ltjax.data.remote import is_remote
from ltjax.errors import InputError, one_line, shown

USAGE = "ltjax --config RECIPE [--data DIR] [--workdir DIR] [--config.KEY=VALUE]"
# Where the recipes lie: inside the package, so that they are there without a clone.
RECIPES = Path(__file__).parents[1] / "configs"
# A flag of one key, with its value if it is in the same word.
_FLAG = re.compile(r"--?config\.([\w.]+)(=.*)?", re.DOTALL)


def recipes() -> dict[str, Path]:
    """The recipes that come with the package.

    Returns:
      Their files by name.

    >>> "digits_lt" in recipes()
    True
    """
    return {path.stem: path for path in sorted(RECIPES.glob("[!_]*.py"))}


def recipe_list() -> str:
    """The recipes with the first line of what each says of itself.

    Returns:
      One line for each, as `ltjax --list-configs` prints them.
    """
    said = {
        name: (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
        for name, path in recipes().items()
    }
    width = max(map(len, said))
    return "\n".join(f"{name:{width}}  {words}" for name, words in said.items())


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
    except flags.Error as e:  # whose words name the flag
        raise InputError(one_line(e, most=500) + _use(e)) from e
    except (ValueError, TypeError, ArithmeticError) as e:
        raise InputError(f"a flag --config.KEY=VALUE: {one_line(e, most=500)}{_use(e)}") from e


def _use(error: Exception) -> str:
    """What the key in an error of a flag allows, where it names one."""
    found = re.search(r"\bconfig\.([\w.]+)", str(error))
    key = SCHEMA.get(found[1]) if found else None
    return f"; use {key.allowed}{' or None' if key.optional else ''}" if key else ""


def read_config_file(path: str | None) -> ConfigDict:
    """Runs a recipe or a config file.

    Args:
      path: name of one of `recipes`, or path of a Python file with get_config(); an argument of
        get_config may follow a colon.

    Returns:
      What get_config() returns.

    Raises:
      InputError: there is no such recipe or file, or it does not end with a configuration.
    """
    if not path:
        raise InputError(
            f"--config is missing; usage: {USAGE}; recipes: {', '.join(recipes())}; "
            "ltjax --help shows more"
        )
    name, colon, argument = path.partition(":")
    file = recipes().get(name) or Path(name)
    _check_exists(name, file)
    path = f"{file}{colon}{argument}"
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
            f"get_config(), such as {RECIPES / 'digits_lt.py'}"
        ) from e
    return config


def _check_exists(name: str, file: Path) -> None:
    try:
        if file.exists():
            return
    except (OSError, ValueError):  # a name that no file can have
        pass
    known = recipes()
    near = [Path(name).stem] if Path(name).stem in known else []
    near = near or difflib.get_close_matches(Path(name).stem, known, n=1, cutoff=0.6)
    where = f"the recipes are {', '.join(known)}"
    hint = f"did you mean --config {near[0]}? ({where})" if near else where
    raise InputError(f"--config {shown(name)} is neither a file nor a recipe; {hint}")


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


def place_data(config: ConfigDict, path: str | None) -> ConfigDict:
    """Sets where the data is, as `--data` gives it.

    Args:
      config: the configuration, which is changed.
      path: a folder; an `.npz` file or a list, which also sets `data.name`; a file of features,
        where `data.name` is features; None changes nothing.

    Returns:
      The same configuration.

    Raises:
      InputError: the configuration's data set is read from no folder.

    >>> from ltjax.config import default
    >>> changed = place_data(default(), "pictures.npz").data
    >>> changed.name, changed.path
    ('npz', 'pictures.npz')
    """
    if not path:
        return config
    kind = Path(path).suffix.lower()
    if config.data.name == "features":
        config.data.path = path
    elif kind == ".npz":
        config.data.name, config.data.path, config.data.dir = "npz", path, ""
    elif kind in LIST_ENDINGS and not Path(path).is_dir():
        config.data.name, config.data.path = "list", path
        above = path.rpartition("/")[0] if is_remote(path) else str(Path(path).parent)
        config.data.dir = config.data.dir or above
    elif config.data.name in ("digits", "npz"):
        raise InputError(
            f"--data {shown(path)} does not go with data.name = {config.data.name}, which reads no "
            "folder; use --config folder for a folder of images"
        )
    else:
        config.data.dir = path
    return config


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
    changes, cleared = _without_none(changes)
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
        for found in map(_FLAG.match, changes):
            if found and found[1] not in SCHEMA:
                raise InputError(f"config.{found[1]} is not a key; {suggestion(found[1])}") from e
        raise InputError(
            f"a flag --config.KEY=VALUE names no key or section of the configuration "
            f"({one_line(e, most=500)}); the keys are listed in docs/config.md"
        ) from e
    except (flags.Error, TypeError, ValueError, ArithmeticError) as e:
        raise InputError(f"a flag --config.KEY=VALUE: {one_line(e, most=500)}{_use(e)}") from e
    rest = parse_flags(values, changes)[1:]
    if rest:
        raise InputError(f"argument {rest[0]!r} is not a flag; usage: {USAGE}")
    changed: ConfigDict = values.config
    for key in cleared:
        put(changed, key, None)
    return changed


def _without_none(changes: Sequence[str]) -> tuple[list[str], set[str]]:
    """The flags but those that set a key to None, which absl cannot parse; and these keys.

    Of several flags of a key the last one counts.
    """
    kept: list[str] = []
    cleared: set[str] = set()
    left = list(changes)
    while left:
        word = left.pop(0)
        found = _FLAG.fullmatch(word)
        if found is None or found[1] not in SCHEMA:
            kept.append(word)
        elif SCHEMA[found[1]].optional and (found[2] or "=" + "".join(left[:1])) == "=None":
            cleared.add(found[1])
            left = left[0 if found[2] else 1 :]
        else:
            cleared.discard(found[1])
            kept.append(word)
    return kept, cleared
