"""The folder of an export as a model hub takes it: weights in safetensors, and a model card."""

import json
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from ltjax.data.weights import NORMALIZATION
from ltjax.errors import one_line
from ltjax.serving.load import Trained

# What the header of a card says of every network of ltjax.
_HEADER = """\
---
library_name: ltjax
pipeline_tag: image-classification
tags:
  - image-classification
  - long-tailed-recognition
  - jax
metrics:
  - accuracy
---
"""


def weights(trained: Trained) -> bytes:
    """Parameters, batch statistics and whitening roots, by names with slashes.

    Args:
      trained: network.

    Returns:
      Content of a `.safetensors` file.
    """
    flat = flatten_dict(dict(trained.variables), sep="/")
    arrays = {name: np.asarray(value, order="C") for name, value in flat.items()}
    pixels = {name: trained.dataset[name] for name in ("mean", "std")}
    # One entry: the library writes several in an order that changes from one export to the next.
    return bytes(save(arrays, metadata={NORMALIZATION: json.dumps(pixels)}))


def card(trained: Trained, *, has_program: bool = True) -> str:
    """The model card: what the network does, how well, and how to run it.

    Args:
      trained: network.
      has_program: whether the export has the program `run.py` and `model.stablehlo`.

    Returns:
      Markdown with a YAML header.
    """
    config, dataset, result = trained.config, trained.dataset, trained.run.result
    how = config.method if config.stage == "one" else f"{config.method} and {config.stage}"
    counts = dataset["class_counts"]
    size, given = " x ".join(map(str, trained.image_shape)), len(trained.image_shape) == 1
    takes = f"{size} given features" if given else f"images of {size}"
    rows = [f"| {name} | {_shown(trained.scores.get(key))} |" for name, key in _SCORES]
    classes = [
        f"| {_cell(name)} | {count:,} |"
        for name, count in zip(dataset["class_names"], counts, strict=True)
    ]
    return "\n".join(
        [
            _HEADER,
            f"# {_cell(dataset.get('name', 'images'))}, {_cell(how)}",
            "",
            f"A {config.model.name} for {takes} and "
            f"{len(counts)} classes with {max(counts):,} to {min(counts):,} training images each, "
            f"trained by ltjax: `{how}`.",
            "",
            "| test score | |",
            "|---|---|",
            *rows,
            "",
            "## Use",
            "",
            "```",
            "ltjax --mode=predict --workdir THIS_FOLDER --input "
            f"{'FEATURES' if given else 'PICTURES'} --output predictions.csv",
            "```",
            "",
            "ltjax takes this folder as it takes the workdir of a run, also in "
            "`--mode=evaluate`. `model.safetensors` has the weights by name, `config.json` and "
            "`result.json` say how it was trained and how well it did: configuration "
            f"{_told(result, 'configuration')}, code {_told(result.get('versions', {}), 'code')}.",
            "",
            *(_program_use(given) if has_program else ()),
            "## Classes",
            "",
            "| class | training images |",
            "|---|---|",
            *classes,
            "",
        ]
    )


def _program_use(given: bool) -> list[str]:
    return [
        "Without ltjax:",
        "",
        "```",
        "pip install jax numpy flatbuffers opencv-python-headless",
        f"python run.py {'FEATURES.npy' if given else 'PICTURES  # one, or a folder of them'}",
        "```",
        "",
        "`model.stablehlo` is the network as a function, and `model.json` says what it takes and "
        "gives.",
        "",
    ]


_SCORES = (
    ("top-1 accuracy", "accuracy"),
    ("balanced accuracy", "balanced_accuracy"),
    ("many-shot accuracy", "many"),
    ("medium-shot accuracy", "medium"),
    ("few-shot accuracy", "few"),
    ("ECE", "ece"),
)


def _told(facts: dict[str, Any], name: str) -> str:
    return f"`{facts[name]}`" if facts.get(name) else "unknown"


def _shown(value: Any) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _cell(text: str) -> str:
    """Text that is no markup in a table of Markdown."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|$~" else c for c in one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")
