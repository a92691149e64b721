"""Stored runs of a protocol, with those that other experiments made in the same setting."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import records
from experiments.protocols import PROTOCOLS
from experiments.statistics import Design, OneTest, Splits
from experiments.store import Rows, Store, parse, read_correct
from ltjax.data.longtail import exponential_counts, shot_groups

POOLED = ("ablation", "baseline", "sensitivity")


class Results(NamedTuple):
    """Runs of one protocol, and how they depend on each other."""

    rows: Rows
    design: Design


def results(path: Path) -> Results:
    """The runs in a file of results, named after its protocol."""
    return _results(path.stem, [(path, records.read(path))])


def pooled(path: Path) -> Results:
    """The same with all runs of the same settings that other experiments have stored.

    A run belongs to a row where it is of the row's kind (`records.KIND`: configuration, code,
    device, processor and versions); of runs of one seed, which are the same, the first one counts.
    """
    own = records.read(path)
    kinds = {records.kind(line): line["row"] for line in own}
    found = [(path, own)]
    for other in companions(path):
        lines = []
        for line in records.read(other):
            row = kinds.get(records.kind(line))
            if row is not None:
                lines.append({**line, "row": row, "stored_as": line["row"]})
        found.append((other, lines))
    return _results(path.stem, found)


def of_store(store: Store) -> Results:
    """The runs of a store, in its file or in memory."""
    return results(store.path) if store.path else Results(store.rows, design(store.protocol))


def files(folder: Path) -> list[Path]:
    """The files of results in a folder, without those of curves and of single images."""
    return [path for path in sorted(folder.glob("*.csv")) if path.stem in PROTOCOLS]


def companions(path: Path) -> list[Path]:
    """Files of results of the other experiments on accuracy, beside one that is stored."""
    folders = path.parents[2]
    found = [file for name in POOLED for file in files(folders / name / "results")]
    return [file for file in found if file != path]


def _results(protocol: str, files: Iterable[tuple[Path, list[records.Line]]]) -> Results:
    """Rows and design of lines of several files, those of the first file before the others'."""
    rows: Rows = {}
    correct: dict[str, dict[int, np.ndarray]] = {}
    for path, lines in files:
        records.require_one_kind(path, lines)
        bits = read_correct(path) if lines else {}
        names = {line["row"]: line.pop("stored_as", line["row"]) for line in lines}
        for row, seeds in parse(lines).items():
            mine = rows.setdefault(row, {})
            new = {seed: result for seed, result in seeds.items() if seed not in mine}
            mine.update(new)
            known = bits.get(names[row], {})
            correct.setdefault(row, {}).update({s: known[s] for s in new if s in known})
    # A row's variance over test images is that of all its seeds, or is left out.
    correct = {row: found for row, found in correct.items() if found.keys() == rows[row].keys()}
    return Results(rows, design(protocol, correct))


def design(protocol: str, correct: dict[str, dict[int, np.ndarray]] | None = None) -> Design:
    """How runs of a protocol depend on each other.

    Args:
      protocol: a name of `PROTOCOLS`.
      correct: of `OneTest`.
    """
    found = PROTOCOLS[protocol]
    if found.split_ratio is not None:
        return Splits(found.split_ratio, found.held_out_ratio)
    counts = exponential_counts(*found.profile)
    return OneTest(correct or {}, shot_groups(counts)._asdict())
