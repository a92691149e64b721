"""What the command line says of itself: the first screen of help, and what a key means."""

import textwrap

from ltjax.config.schema import SCHEMA, SECTIONS, suggestion
from ltjax.errors import InputError, one_line

_COLUMNS = 79
# The keys of the first screen, those that are changed most.
MOST_USED = (
    "method",
    "seed",
    "data.image_size",
    "data.test_per_class",
    "data.imbalance_factor",
    "model.name",
    "augment.flip",
    "train.epochs",
    "train.batch_size",
    "optimizer.learning_rate",
)

_SCREEN = """\
ltjax: long-tailed image recognition in JAX

Train, or resume with the same command; the workdir gets a report and a result:
  ltjax --config RECIPE [--data DIR] [--workdir DIR] [--config.KEY=VALUE ...]
After training:
  ltjax --mode=evaluate --workdir DIR
  ltjax --mode=predict --workdir DIR --input IMAGES --output FILE.csv
  ltjax --mode=embed --workdir DIR --input IMAGES --output FILE.parquet
  ltjax --mode=export --workdir DIR --output DIR
  python -m ltjax.report DIR DIR --out FILE.html            compare runs

Your own images, one folder per class:  ltjax --config folder --data IMAGES
Embeddings of any network, with labels: ltjax --config features_lt --data FILE
A quick check of any recipe:            add --config.runlocal=True

The keys used most, with their defaults in the base configuration:
{keys}

ltjax explain KEY     meaning, default and range of a key or of a section
ltjax --list-configs  the recipes         ltjax --helpfull  every flag
ltjax --version       the version
"""


def screen() -> str:
    """The first screen of help: what there is, on 80 columns.

    Returns:
      The text.
    """
    width = max(map(len, MOST_USED))
    rows = []
    for path in MOST_USED:
        key = SCHEMA[path]
        start = f"  {path:{width}}  {key.default!s:14}  "
        help = textwrap.shorten(key.option.help, _COLUMNS - len(start), placeholder=" ...")
        rows.append(start + help)
    return _SCREEN.format(keys="\n".join(rows))


def explain(name: str) -> str:
    """What a key means, its default and its range; or the keys of a section.

    Args:
      name: dotted path of a key or of a section, such as `loss.tau`; `config.` may stand before it.

    Returns:
      Lines of text.

    Raises:
      InputError: there is no such key or section.

    >>> print(explain("loss.tau"))
    loss.tau = 1.0
      strength of logit_adjustment, vs and posthoc_la
      allowed: a number >= 0 and <= 1000000
    """
    path = name.removeprefix("--").removeprefix("config.").partition("=")[0]
    if path in SCHEMA:
        key = SCHEMA[path]
        optional = " or None" if key.optional else ""
        lines = [key.option.help, f"allowed: {key.allowed}{optional}"]
        return "\n".join([f"{path} = {key.default!r}", *(_indented(line) for line in lines)])
    if path in SECTIONS:
        return "\n\n".join(explain(key) for key in SCHEMA if key.startswith(f"{path}."))
    raise InputError(f"{one_line(path, most=100)} is not a key; {suggestion(path)}")


def _indented(text: str) -> str:
    return textwrap.fill(text, _COLUMNS, initial_indent="  ", subsequent_indent="    ")
