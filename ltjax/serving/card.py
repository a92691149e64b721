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
    arrays = {name: np.ascontiguousarray(value) for name, value in flat.items()}
    pixels = {name: trained.dataset[name] for name in ("mean", "std")}
    about = {
        "library": "ltjax",
        "method": trained.config.method,
        "model": trained.config.model.name,
        NORMALIZATION: json.dumps(pixels),
    }
    return bytes(save(arrays, metadata=about))


def card(trained: Trained) -> str:
    """The model card: what the network does, how well, and how to run it.

    Args:
      trained: network.

    Returns:
      Markdown with a YAML header.
    """
    run, dataset = trained.run, trained.dataset
    counts = dataset["class_counts"]
    size, given = " x ".join(map(str, trained.image_shape)), len(trained.image_shape) == 1
    takes = f"{size} given features" if given else f"images of {size}"
    rows = [f"| {name} | {_shown(run.result['test'].get(key))} |" for name, key in _SCORES]
    classes = [
        f"| {_cell(name)} | {count:,} |"
        for name, count in zip(dataset["class_names"], counts, strict=True)
    ]
    return "\n".join(
        [
            _HEADER,
            f"# {_cell(dataset.get('name', 'images'))}, {trained.config.method}",
            "",
            f"A {trained.config.model.name} for {takes} and "
            f"{len(counts)} classes with {max(counts):,} to {min(counts):,} training images each, "
            f"trained by ltjax with the method `{trained.config.method}`.",
            "",
            "| test score | |",
            "|---|---|",
            *rows,
            "",
            "## Use",
            "",
            "```",
            "pip install jax numpy flatbuffers opencv-python-headless",
            f"python run.py {'FEATURES.npy' if given else 'PICTURES  # one, or a folder of them'}",
            "```",
            "",
            "`model.stablehlo` is the network as a function, `model.json` says "
            "what it takes and gives, and `model.safetensors` has the weights by name.",
            "",
            "## Classes",
            "",
            "| class | training images |",
            "|---|---|",
            *classes,
            "",
        ]
    )


_SCORES = (
    ("top-1 accuracy", "accuracy"),
    ("balanced accuracy", "balanced_accuracy"),
    ("many-shot accuracy", "many"),
    ("medium-shot accuracy", "medium"),
    ("few-shot accuracy", "few"),
    ("ECE", "ece"),
)


def _shown(value: Any) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _cell(text: str) -> str:
    """Text that is no markup in a table of Markdown."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|$~" else c for c in one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")
