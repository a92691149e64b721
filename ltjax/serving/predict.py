"""Predictions for pictures or features, streamed from files to CSV or JSON lines."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import numpy as np
from scipy.special import log_softmax

from ltjax.errors import InputError, one_line, require, visible
from ltjax.evaluation.target import to_prior
from ltjax.serving.inputs import open_inputs, results
from ltjax.serving.load import Trained, folded_function
from ltjax.serving.output import check_differs, written_whole
from ltjax.serving.target import read_prior


class PredictOutcome(NamedTuple):
    """What a prediction did.

    Attributes:
      predicted: number of pictures that were predicted.
      skipped: a line about each file that could not be decoded.
    """

    predicted: int
    skipped: list[str]


def _no_formula(text: str) -> str:
    """A cell that a spreadsheet does not compute: an apostrophe marks it as text.

    >>> _no_formula("=1+1"), _no_formula("a=1")
    ("'=1+1", 'a=1')
    """
    text = visible(text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@", "\uff1d")) else text


def _writer(file: IO[str], top_k: int, *, lines: bool) -> Callable[[str, list[Any]], None]:
    """Writes one picture's `[(class, probability), ...]`."""
    if lines:

        def write_line(name: str, top: list[Any]) -> None:
            found = [{"class": c, "probability": p} for c, p in top]
            file.write(json.dumps({"image": name, "top": found}) + "\n")

        return write_line
    table = csv.writer(file)
    columns = [f"{what}_{k}" for k in range(1, top_k + 1) for what in ("class", "probability")]
    table.writerow(["image", *columns])

    def write_row(name: str, top: list[Any]) -> None:
        cells = (cell for c, p in top for cell in (_no_formula(c), f"{p:.6f}"))
        table.writerow([_no_formula(name), *cells])

    return write_row


def _calibration(trained: Trained, target_prior: str) -> Callable[[np.ndarray], np.ndarray]:
    """What is done to logits before the softmax.

    Raises:
      InputError: a class distribution that cannot be read, or that nothing was fitted to adjust to.
    """
    if not target_prior:
        return lambda logits: logits / trained.temperature
    names, counts = trained.dataset["class_names"], np.asarray(trained.dataset["class_counts"])
    prior, balanced = read_prior(target_prior, names, counts), trained.balanced
    if balanced is None:
        raise InputError(
            f"--target_prior = {one_line(target_prior)} is not allowed with this network: what its "
            "outputs mean is fitted on held-out images at the end of a training with "
            "config.data.validation_fraction above 0 or a validation part; leave it out"
        )
    return lambda logits: to_prior(logits, counts, balanced, prior)


def predict(
    trained: Trained,
    source: str | Path,
    output: str | Path,
    *,
    top_k: int = 5,
    target_prior: str = "",
    batch_size: int = 128,
    threads: int = 4,
    skip: Callable[[str], None] = lambda line: None,
    ignore: Callable[[str], None] = lambda line: None,
) -> PredictOutcome:
    """Writes the most probable classes of every example, with calibrated probabilities.

    Pictures are decoded by threads while the network computes; memory does not depend on how many
    there are. The output is written beside its place and takes it when it is complete.

    Args:
      trained: network.
      source: see `ltjax.serving.inputs.open_inputs`.
      output: `.csv` (with a header line) or `.jsonl`.
      top_k: number of classes to list per picture.
      target_prior: the class distribution of the pictures, see `ltjax.serving.target.read_prior`;
        empty leaves the probabilities as the network was trained to give them.
      batch_size: pictures per call of the network.
      threads: that decode.
      skip: is given a line about each file that cannot be decoded.
      ignore: is given a line about the files whose endings are not those of pictures.

    Returns:
      How many pictures were predicted, and what was skipped.

    Raises:
      InputError: bad values, nothing to predict, or an output that cannot be written or is the
        input.
    """
    source, output = Path(source), Path(output)
    require(output.suffix in (".csv", ".jsonl"), "--output", str(output), "a .csv or .jsonl file")
    require(top_k >= 1, "--top_k", top_k, "an integer >= 1")
    names = trained.dataset["class_names"]
    top_k = min(top_k, len(names))
    calibrated = _calibration(trained, target_prior)
    network = jax.jit(folded_function(trained)[0])
    skipped: list[str] = []

    def note(line: str) -> None:
        skipped.append(line)
        if len(inputs.files) > 1:  # of one file, the error says it
            skip(line)

    check_differs(output, [source, *trained.run.files])
    inputs = open_inputs(source, trained.image_shape, threads=threads, skip=note, ignore=ignore)
    check_differs(output, inputs.files)
    done = 0
    with written_whole(output) as file:
        write = _writer(file, top_k, lines=output.suffix == ".jsonl")
        for of, found in results(
            network, inputs.examples, batch_size, source=source, skipped=skipped
        ):
            p = np.exp(log_softmax(calibrated(found).astype(np.float64), axis=1))
            order = np.argsort(-p, axis=1, kind="stable")[:, :top_k]
            for one, row, best in zip(of, p, order, strict=True):
                write(one.name, [(names[c], float(row[c])) for c in best])
            done += len(of)
    return PredictOutcome(done, skipped)
