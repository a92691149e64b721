"""Predictions for pictures, streamed from a file, a folder or an `.npz` to CSV or JSON lines."""

import csv
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import numpy as np
from scipy.special import log_softmax

from ltjax.errors import InputError, one_line, require, visible
from ltjax.serving.load import Trained, folded_function
from ltjax.serving.npz import stream_images
from ltjax.serving.output import check_differs, written_whole
from ltjax.serving.pictures import UnreadableError, decode_file, picture_files

Picture = tuple[str, np.ndarray]


class PredictOutcome(NamedTuple):
    """What a prediction did.

    Attributes:
      predicted: number of pictures that were predicted.
      skipped: a line about each file that could not be decoded.
    """

    predicted: int
    skipped: list[str]


def _decoded(
    files: list[Path], shape: tuple[int, ...], skip: Callable[[str], None], *, threads: int
) -> Iterator[Picture]:
    """Pictures in order; no more than a few dozen are in memory."""
    with ThreadPoolExecutor(threads) as pool:
        rest = iter(files)
        under_way = deque((f, pool.submit(decode_file, f, shape)) for f in islice(rest, 64))
        while under_way:
            path, future = under_way.popleft()
            for f in islice(rest, 1):
                under_way.append((f, pool.submit(decode_file, f, shape)))
            try:
                yield visible(str(path)), future.result()
            except UnreadableError as e:
                skip(str(e))


def _batches(pictures: Iterator[Picture], size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Names and images, the last batch padded with zeros to one compiled shape."""
    while part := list(islice(pictures, size)):
        names, images = [name for name, _ in part], np.stack([image for _, image in part])
        padding = np.zeros((size - len(part), *images.shape[1:]), np.uint8)
        yield names, np.concatenate([images, padding])


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


def predict(
    trained: Trained,
    source: str | Path,
    output: str | Path,
    *,
    top_k: int = 5,
    batch_size: int = 128,
    threads: int = 4,
    skip: Callable[[str], None] = lambda line: None,
    ignore: Callable[[str], None] = lambda line: None,
) -> PredictOutcome:
    """Writes the most probable classes of every picture, with calibrated probabilities.

    Pictures are decoded by threads while the network computes; memory does not depend on how many
    there are. The output is written beside its place and takes it when it is complete.

    Args:
      trained: network.
      source: picture, folder (searched to the bottom), or `.npz` with `images`.
      output: `.csv` (with a header line) or `.jsonl`.
      top_k: number of classes to list per picture.
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
    network = jax.jit(folded_function(trained)[0])
    skipped: list[str] = []

    def note(line: str) -> None:
        skipped.append(line)
        if len(files) > 1:  # of one file, the error says it
            skip(line)

    files = [source] if source.suffix == ".npz" else picture_files(source, note=ignore)
    check_differs(output, [*files, *trained.run.files])
    if source.suffix == ".npz":
        images_of = stream_images(str(source), trained.image_shape)
        pictures: Iterator[Picture] = ((str(i), image) for i, image in enumerate(images_of))
    else:
        pictures = _decoded(files, trained.image_shape, note, threads=threads)
    done = 0
    with written_whole(output) as file:
        write = _writer(file, top_k, lines=output.suffix == ".jsonl")

        def finish(of: list[str], found: jax.Array) -> None:
            logits = np.asarray(found)[: len(of)] / trained.temperature
            p = np.exp(log_softmax(logits.astype(np.float64), axis=1))
            order = np.argsort(-p, axis=1, kind="stable")[:, :top_k]
            for name, row, best in zip(of, p, order, strict=True):
                write(name, [(names[c], float(row[c])) for c in best])

        waiting: tuple[list[str], jax.Array] | None = None
        for of, images in _batches(pictures, batch_size):
            sent = network(images)  # computes while the one before is written
            if waiting:
                finish(*waiting)
            waiting, done = (of, sent), done + len(of)
        if waiting:
            finish(*waiting)
        if not done:
            first = f" ({skipped[0]})" if skipped else ""
            raise InputError(f"--input {one_line(source)} holds no picture that can be read{first}")
    return PredictOutcome(done, skipped)
