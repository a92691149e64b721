"""Features of pictures, written as a file that `data.name=features` reads."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np

from ltjax.errors import require
from ltjax.serving.backbone import features_function as features_of_backbone
from ltjax.serving.backbone import load_backbone
from ltjax.serving.inputs import Example, open_inputs, results
from ltjax.serving.load import Trained, features_function
from ltjax.serving.output import check_differs, replaced_whole
from ltjax.serving.pictures import CROP


class Embedder(NamedTuple):
    """A network that gives features.

    Attributes:
      function: of uint8 images `[B, H, W, C]`, or given features `[B, D]`, to `[B, D']`.
      shape: of one input, `(H, W, C)` or `(D,)`.
      files: of the network, none of which an output may replace.
      crop: share of the shorter side of a picture that it sees.
    """

    function: Callable[[jax.Array], jax.Array]
    shape: tuple[int, ...]
    files: Sequence[Path] = ()
    crop: float = CROP


class Block(NamedTuple):
    """Some rows of the output.

    Attributes:
      examples: the inputs.
      features: float32 `[B, D]`.
    """

    examples: Sequence[Example]
    features: np.ndarray

    @property
    def names(self) -> list[str]:
        """Of the examples."""
        return [one.name for one in self.examples]

    @property
    def labels(self) -> list[Any]:
        """Of the examples: names or numbers of classes."""
        return [one.label for one in self.examples]


class EmbedOutcome(NamedTuple):
    """What a call did.

    Attributes:
      embedded: number of rows.
      size: number of features of a row.
      labeled: whether the rows have labels.
      skipped: a line about each file that could not be decoded.
    """

    embedded: int
    size: int
    labeled: bool
    skipped: list[str]


def of_run(trained: Trained) -> Embedder:
    """The backbone of a trained network: the classifier's inputs before any whitening.

    Args:
      trained: network.

    Returns:
      What `embed` takes.
    """
    return Embedder(features_function(trained), trained.image_shape, trained.run.files)


def of_weights(name: str) -> Embedder:
    """A pretrained backbone, without any training.

    Args:
      name: one of `ltjax.models.pretrained.PRETRAINED`.

    Returns:
      What `embed` takes.

    Raises:
      InputError: an unknown name, or a file that must be fetched first.
    """
    module, pretrained = load_backbone(name)
    entry = pretrained.entry
    function = features_of_backbone(module, pretrained)
    return Embedder(function, (entry.size, entry.size, 3), [pretrained.file], entry.crop)


def embed(
    embedder: Embedder,
    source: str | Path,
    output: str | Path,
    *,
    batch_size: int = 128,
    threads: int = 4,
    skip: Callable[[str], None] = lambda line: None,
    ignore: Callable[[str], None] = lambda line: None,
) -> EmbedOutcome:
    """Writes the features of every picture, with names and, where they are known, labels.

    The output is written beside its place and takes it when it is complete. `.parquet` is written
    row group by row group; the others are in memory until they are complete.

    Args:
      embedder: network.
      source: see `ltjax.serving.inputs.open_inputs`.
      output: `.parquet` with the columns name, label and features; `.npz` or `.safetensors` with
        features, labels and names.
      batch_size: pictures per call of the network.
      threads: that decode.
      skip: is given a line about each file that cannot be decoded.
      ignore: is given a line about what is no picture by its name.

    Returns:
      What was written, and what was skipped.

    Raises:
      InputError: nothing to embed, or an output that cannot be written or is the input.
    """
    source, output = Path(source), Path(output)
    one_of = ", ".join(WRITERS)
    require(output.suffix in WRITERS, "--output", str(output), f"a file {one_of}")
    skipped: list[str] = []

    def note(line: str) -> None:
        skipped.append(line)
        skip(line)

    check_differs(output, [source, *embedder.files])
    inputs = open_inputs(
        source, embedder.shape, threads=threads, skip=note, ignore=ignore, crop=embedder.crop
    )
    check_differs(output, inputs.files)
    done = size = 0

    def counted() -> Iterator[Block]:
        nonlocal done, size
        network = jax.jit(embedder.function)
        for of, features in results(
            network, inputs.examples, batch_size, source=source, skipped=skipped
        ):
            done, size = done + len(of), features.shape[1]
            yield Block(of, features)

    with replaced_whole(output) as file:
        WRITERS[output.suffix](file, counted(), inputs.labeled)
    return EmbedOutcome(done, size, inputs.labeled, skipped)


def _write_parquet(file: BinaryIO, blocks: Iterator[Block], labeled: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: Any = None
    for block in blocks:
        columns: dict[str, Any] = {"name": pa.array(block.names, pa.string())}
        if labeled:
            columns["label"] = pa.array(block.labels)
        flat = pa.array(np.ascontiguousarray(block.features).reshape(-1))
        columns["features"] = pa.FixedSizeListArray.from_arrays(flat, block.features.shape[1])
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    writer.close()


def _write_npz(file: BinaryIO, blocks: Iterator[Block], labeled: bool) -> None:
    features, names, labels = _joined(blocks)
    arrays = {"features": features, "names": np.array(names)}
    if labeled:
        arrays["labels"] = np.array(labels)
    np.savez(file, allow_pickle=False, **arrays)


def _write_safetensors(file: BinaryIO, blocks: Iterator[Block], labeled: bool) -> None:
    """Text lies in the metadata, as JSON; labels that are names become numbers."""
    from safetensors.numpy import save

    features, names, labels = _joined(blocks)
    tensors, said = {"features": features}, {"names": json.dumps(names)}
    if labeled:
        classes, numbers = np.unique(np.array(labels), return_inverse=True)
        if classes.dtype.kind == "U":
            said["class_names"] = json.dumps(classes.tolist())
            labels = numbers.tolist()
        tensors["labels"] = np.array(labels, np.int64)
    file.write(save(tensors, metadata=said))


def _joined(blocks: Iterator[Block]) -> tuple[np.ndarray, list[str], list[Any]]:
    every = list(blocks)
    names = [name for block in every for name in block.names]
    labels = [label for block in every for label in block.labels]
    return np.concatenate([block.features for block in every]), names, labels


WRITERS: dict[str, Callable[[BinaryIO, Iterator[Block], bool], None]] = {
    ".parquet": _write_parquet,
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
}
