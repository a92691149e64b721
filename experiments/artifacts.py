"""Finished runs as folders to publish: the network, its numbers, its configuration, and hashes.

    python -m experiments.artifacts --runs FOLDER --out FOLDER

FOLDER has workdirs, at any depth, such as those that `--workdirs` of the experiments keeps. Each
network gets a folder of an export, and `SHA256SUMS` names every file, as `sha256sum --check` reads
it. Runs that are not finished are left out, and named.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

from ltjax.errors import InputError
from ltjax.serving import export
from ltjax.serving.load import load_all

SUMS = "SHA256SUMS"


def workdirs(folder: Path) -> list[Path]:
    """The workdirs below a folder, finished or not."""
    return sorted(path.parent for path in folder.rglob("config.json"))


def name_of(workdir: Path, folder: Path) -> str:
    """Name of an artifact, from where the run lies.

    >>> name_of(Path("runs/cifar10/cw_la whitening.shrinkage=0.5 0"), Path("runs"))
    'cifar10-cw_la-whitening.shrinkage-0.5-0'
    >>> name_of(Path("runs"), Path("runs"))
    'run'
    """
    return re.sub(r"[^\w.]+", "-", "/".join(workdir.relative_to(folder).parts)) or "run"


def publish(folder: Path, out: Path) -> list[str]:
    """Writes the artifacts of the finished runs below a folder.

    Args:
      folder: of the runs.
      out: of the artifacts.

    Returns:
      Why runs were left out, one line each.
    """
    left = []
    for workdir in workdirs(folder):
        try:
            networks = load_all(workdir)
        except InputError as e:
            left.append(str(e))
            continue
        name = name_of(workdir, folder)
        for trained in networks:
            target = out / (name if len(networks) == 1 else f"{name}-seed-{trained.config.seed}")
            export.write(trained, target, platforms=export.PLATFORMS)
    return left


def sums(out: Path) -> str:
    """SHA-256 of every file of the artifacts, as `sha256sum` writes it."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != SUMS)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out)}\n"
        for path in files
    )


def main() -> int:
    """Writes them; 1 where there is no finished run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder with workdirs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artifacts")
    args = parser.parse_args()
    for line in publish(args.runs, args.out):
        print(f"left out: {line}", file=sys.stderr)
    found = sums(args.out) if args.out.exists() else ""
    if not found:
        print(f"{args.runs} has no finished run", file=sys.stderr)
        return 1
    (args.out / SUMS).write_text(found)
    print(found, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
