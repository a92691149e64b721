"""The configuration: the options of all parts, composed into one tree of keys."""

import dataclasses
import difflib
from collections.abc import Mapping
from types import UnionType
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints

from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict, FieldReference

from ltjax.augment.options import AugmentConfig
from ltjax.config.options import (
    LARGEST_SEED,
    CheckpointConfig,
    DecoupledConfig,
    EngineConfig,
    EvaluationConfig,
    OptimizerConfig,
    TrainConfig,
    integers,
)
from ltjax.config.recipes import METHODS, STAGES, UNTRAINED_STAGES
from ltjax.data.load import DataConfig
from ltjax.errors import (
    FLAG,
    TEXT,
    Allowed,
    InputError,
    Option,
    integer,
    one_line,
    one_of,
    option,
    require,
)
from ltjax.losses.registry import LossConfig
from ltjax.models.finetune import FinetuneConfig
from ltjax.models.registry import ModelConfig
from ltjax.samplers.registry import SamplerConfig
from ltjax.whitening.options import WhiteningConfig


class Key(NamedTuple):
    """One configuration key.

    Attributes:
      option: its default, what may be used, and what it means.
      types: the types of a value, None's apart.
      optional: whether it may be None.
    """

    option: Option
    types: tuple[type, ...]
    optional: bool

    @property
    def default(self) -> Any:
        """Value in the base configuration."""
        return self.option.default

    @property
    def older(self) -> Any:
        """Value in a stored configuration that lacks the key."""
        return self.default if self.option.older is ... else self.option.older

    @property
    def allowed(self) -> str:
        """What may be used, in words."""
        return self.option.allowed.words


def _interval() -> Allowed:
    step = integer(0)

    def check(v: Any) -> bool:
        if not isinstance(v, tuple | list) or not all(map(step.check, v)):
            return False
        return len(v) == 0 or (len(v) == 2 and v[0] < v[1])

    return Allowed(check, "() or integers (FIRST, LAST), 0 <= FIRST < LAST")


@dataclasses.dataclass(frozen=True)
class Config:
    """The whole configuration of a run: a tree of frozen options.

    `resolve` returns one without "auto"; `default` returns the same tree as an
    `ml_collections.ConfigDict`, which files and flags override.
    """

    method: str = option(
        "cw_la_b3rs_bet", one_of(*METHODS), "method to train; sets every key whose value is auto"
    )
    stage: str = option(
        "one",
        one_of(*STAGES),
        "one: train the whole network; any other: train or compute the classifier only, on the "
        "network of init_from",
    )
    init_from: str = option("", TEXT, "stage two: workdir of the finished stage one")
    seed: int = option(
        0,
        integer(0, LARGEST_SEED),
        "seed of the split, the batches, the initialization and the augmentation",
    )
    seeds: tuple[int, ...] = option(
        (),
        integers(0, LARGEST_SEED, most=100),
        "seeds to train side by side on one split; () is (seed,)",
    )
    cpu_devices: int = option(
        2, integer(1, 256), "number of JAX host devices to train on where there is only a CPU"
    )
    runlocal: bool = option(False, FLAG, "shrink the run to about a minute on two CPU cores")
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    finetune: FinetuneConfig = dataclasses.field(default_factory=FinetuneConfig)
    whitening: WhiteningConfig = dataclasses.field(default_factory=WhiteningConfig)
    plan: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    decoupled: DecoupledConfig = dataclasses.field(default_factory=DecoupledConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)
    profile_steps: tuple[int, ...] = option(
        (), _interval(), "first and last step to trace, into profile/ of the workdir"
    )
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)

    @property
    def training_epochs(self) -> int:
        """Epochs of training: 0 for a stage that computes its head without training."""
        return 0 if self.stage in UNTRAINED_STAGES else self.train.epochs

    def flat(self) -> dict[str, Any]:
        """The configuration by dotted keys.

        Returns:
          Dotted keys to values.

        >>> Config().flat()["train.epochs"]
        100
        """
        return flatten(self)

    def nested(self) -> dict[str, Any]:
        """The configuration as `config.json` holds it, where a tuple becomes a list.

        Returns:
          Nested dictionaries.

        >>> Config().nested()["train"]["epochs"]
        100
        """
        return dataclasses.asdict(self)


def _keys(section: type, prefix: str = "") -> dict[str, Key]:
    """The keys of a section and of those below it, in the order of their declaration."""
    found: dict[str, Key] = {}
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        hint, path = hints[field.name], prefix + field.name
        if dataclasses.is_dataclass(hint):
            found |= _keys(cast(type, hint), f"{path}.")
            continue
        parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        kinds = tuple(get_origin(p) or p for p in parts if p is not type(None))
        found[path] = Key(field.metadata["option"], kinds, type(None) in parts)
    return found


SCHEMA: dict[str, Key] = _keys(Config)
SECTIONS = frozenset(path.rpartition(".")[0] for path in SCHEMA) - {""}


def default() -> ConfigDict:
    """The base configuration; configs override its values, never its keys or types.

    Returns:
      Every key with its default.

    >>> default().train.epochs
    100
    """
    return as_config_dict(Config())


def as_config_dict(config: Config) -> ConfigDict:
    """Converts a configuration to one that files and flags can change.

    Args:
      config: resolved or not.

    Returns:
      The same tree; every key keeps its type.

    >>> changed = as_config_dict(Config())
    >>> changed.train.epochs = 5
    >>> changed.train.epochs
    5
    """

    def typed(path: str, value: Any) -> Any:
        key = SCHEMA[path]
        if len(key.types) > 1:
            return FieldReference(value, field_type=object)
        return FieldReference(value, field_type=key.types[0]) if key.optional else value

    values = {path: typed(path, value) for path, value in config.flat().items()}
    return ConfigDict(unflatten_dict(values, sep="."))


def get(config: ConfigDict | Config, path: str) -> Any:
    """The value at a dotted path.

    Args:
      config: the configuration.
      path: of the key, such as `data.limit`.

    Returns:
      Its value.

    >>> get(Config(), "train.epochs")
    100
    """
    node: Any = config
    for name in path.split("."):
        node = getattr(node, name)
    return node


def put(config: ConfigDict, path: str, value: Any) -> None:
    """Sets the value at a dotted path.

    Args:
      config: the configuration, which is changed.
      path: of the key, such as `data.limit`.
      value: of the key's type.

    >>> config = default()
    >>> put(config, "data.limit", 100)
    >>> config.data.limit
    100
    """
    *sections, name = path.split(".")
    node = get(config, ".".join(sections)) if sections else config
    node[name] = value


def flatten(config: Mapping[str, Any] | ConfigDict | Config) -> dict[str, Any]:
    """Converts a configuration to dotted keys.

    Args:
      config: nested dictionaries, a `ConfigDict` or a `Config`.

    Returns:
      Dotted keys to values.

    Raises:
      InputError: it is no tree of names and values.

    >>> flatten({"data": {"limit": 100}})
    {'data.limit': 100}
    """
    if isinstance(config, ConfigDict):
        try:
            config = config.to_dict()
        except Exception as e:  # a value that is computed only now, or a placeholder without one
            raise InputError(f"the configuration has no values: {one_line(e, most=500)}") from e
    nested = dataclasses.asdict(config) if isinstance(config, Config) else config
    require(isinstance(nested, Mapping), "the configuration", nested, "a ConfigDict or a mapping")
    flat: dict[str, Any] = {}
    _flatten(nested, "", flat)
    return flat


def _flatten(nested: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in nested.items():
        require(isinstance(name, str), f"a name in config.{prefix}", name, "text")
        path = prefix + name
        if isinstance(value, Mapping) and (value or path in SECTIONS):
            require(path.count(".") < 9, f"config.{path}", value, "keys in sections, not deeper")
            _flatten(value, f"{path}.", flat)
        else:
            require(path not in flat, f"a second config.{path}", value, "one value per key")
            flat[path] = value


def suggestion(name: str) -> str:
    """Words that point from an unknown key to one that exists.

    Args:
      name: dotted path that is not a key.

    Returns:
      The end of a message.

    >>> suggestion("train.epoch")
    'did you mean config.train.epochs? (the keys are listed in docs/config.md)'
    """
    near = difflib.get_close_matches(name, SCHEMA, n=1, cutoff=0.5)
    leaf = [key for key in SCHEMA if key.split(".")[-1] == name.split(".")[-1]]
    hint = (leaf or near)[:1]
    where = "the keys are listed in docs/config.md"
    return f"did you mean config.{hint[0]}? ({where})" if hint else where


def key_table() -> str:
    """The table of the keys in docs/config.md.

    Returns:
      Markdown, one row a key.
    """
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for path, key in SCHEMA.items():
        default_value = repr(key.default).replace("'", "")
        optional = " or None" if key.optional else ""
        rows.append(
            f"| `{path}` | `{default_value or ' '}` | {key.allowed}{optional} | {key.option.help} |"
        )
    return "\n".join(rows) + "\n"
