"""Trains one row of a protocol with several seeds as one program, and stores each seed's scores.

    python -m experiments.gpu.row --protocol cifar10 --row cw_la_b3rs_bet --seeds 3 \
        --data-dir TFDS_DIR --out FOLDER

On a GPU the seeds are trained side by side. They share the subset of seed 0, as the field's runs
do. A row that was stopped goes on from its checkpoint in FOLDER/runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import records
from experiments.protocols import PROTOCOLS, Trial, make_config
from experiments.store import SCORES, Run, Store
from ltjax.training.ending import orderly


def trained(protocol: str, row: str, seeds: Sequence[int], data_dir: str, out: Path) -> list[Run]:
    """The runs of a row, one for each seed, in order; stage one is trained before a second stage.

    Args:
      protocol: a name of `PROTOCOLS`.
      row: a row of it, with changes of configuration keys or without.
      seeds: the seeds.
      data_dir: folder of the prepared TFDS data sets.
      out: folder of the workdirs.
    """
    from ltjax.training.run import run

    trial = Trial(row, seeds[0])
    first = ""
    if trial.first is not None:
        trained(protocol, trial.first.row, seeds, data_dir, out)
        first = str(workdir(out, protocol, trial.first.row))
    about = PROTOCOLS[protocol]
    config = make_config(about, trial, data_dir, init_from=first)
    if about.prepare is not None:
        config.data.path = str(about.prepare())
    config.seeds = tuple(seeds)
    result = run(config, workdir(out, protocol, row)).result
    # What all seeds took together; a share of it is what one costs.
    share = result["train"]["seconds"] / len(seeds)
    every = result["per_seed"] if len(seeds) > 1 else [result["test"]]
    return [
        Run(
            {name: one[name] for name in SCORES if one[name] is not None} | {"seconds": share},
            [],
            kernels=result["versions"]["kernels"],
        )
        for one in every
    ]


def workdir(out: Path, protocol: str, row: str) -> Path:
    """Where a row is trained."""
    return out / "runs" / protocol / row.replace("/", "_")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and stores; what is not allowed, and a stop, is one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--row", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    return orderly(lambda: _stored(args))


def _stored(args: argparse.Namespace) -> int:
    store, seeds = Store(args.out / f"{args.protocol}.csv", args.protocol), range(args.seeds)
    complete = all(Trial(args.row, seed) in store for seed in seeds)
    store.check([args.row], added=[] if complete else None)
    if complete:
        return 0
    runs = trained(args.protocol, args.row, seeds, args.data_dir, args.out)
    about = records.environment(records.devices())
    for seed, one in zip(seeds, runs, strict=True):
        store.put(Trial(args.row, seed), one, about)
        print(f"{args.row}  seed {seed}: {one.result['accuracy']:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
