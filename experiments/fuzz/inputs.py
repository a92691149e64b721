"""Random damaged images, lists, archives, folders and caches, through the code that reads them.

    python -m experiments.fuzz.inputs [--inputs 2000] [--seed 0] [--out DIR]

Each input is read in a process of its own, as `train` or `predict` reads it, with a limit on memory
and on time. It may only succeed without a word or be refused: by one line, as the command line
prints it with exit code 2. A traceback, a crash, a hang, or a cache that changes what is read is
printed and counted as a failure, and the command ends with 1. Warnings of libpng and libjpeg, which
OpenCV cannot turn off, are left out.
"""

import argparse
import faulthandler
import gc
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from experiments import records
from experiments.fuzz import mutations
from ltjax import config as configs
from ltjax.augment.host import HostAugment
from ltjax.data.folder import read_folder
from ltjax.data.sources import EncodedSource
from ltjax.data.stream import LoadBatch, Stream
from ltjax.errors import InputError
from ltjax.serving.npz import stream_images
from ltjax.serving.output import check_differs, written_whole
from ltjax.serving.pictures import UnreadableError, decode_file, picture_files
from ltjax.training.build import read_data

# Limits for one input: seconds of computing and, for what waits, by the clock; memory in bytes
# beyond what the process has at its start.
CPU_SECONDS, SECONDS = 20, 300
MEMORY = 3 * 2**29
# How the lines begin that libpng and libjpeg print.
WARNINGS = (
    *("\n", "libpng ", "Corrupt JPEG data", "Premature end of JPEG", "Invalid SOS parameters"),
    *("Unsupported marker", "Invalid component", "Application transferred", "Unknown Adobe color"),
    *("Inconsistent progression", "Warning: unknown JFIF"),
)
IMAGES = mutations.whole_images()
SUFFIXES = (".jpg", ".png", ".bmp", ".webp", ".tif")

# What is left to do with an input that has been made, and may only succeed or raise InputError.
Read = Callable[[], None]


def _train(**data: Any) -> Read:
    """Reads a data set as a run does, resident or streamed with crops."""
    config = configs.default()
    settings = {"image_size": 16, "profile": "as_is", "test_per_class": 1, "validation_fraction": 0}
    for key, value in {**settings, **data}.items():
        configs.put(config, f"data.{key}", value)
    resolved = configs.resolve(config)

    def read() -> None:
        for source in read_data(resolved)[:2]:
            if isinstance(source, EncodedSource):
                load = LoadBatch(source, HostAugment(jitter=0.2), 0, resolved.data.skip_corrupt)
                stream = Stream(np.arange(len(source))[:, None], load)
                for step in range(len(source)):
                    stream[step]
                stream.close()

    return read


def _any(rng: np.random.Generator) -> dict[str, Any]:
    residency = str(rng.choice(["resident", "streamed"]))
    return {"residency": residency, "skip_corrupt": bool(rng.random() < 0.5)}


def _image(rng: np.random.Generator) -> bytes:
    return IMAGES[int(rng.integers(len(IMAGES)))]


def _folder(root: Path, rng: np.random.Generator) -> Path:
    """Two classes of three whole images each."""
    for label in ("a", "b"):
        (root / "set" / label).mkdir(parents=True)
        for i in range(3):
            suffix = str(rng.choice(SUFFIXES))
            (root / "set" / label / f"{i}{suffix}").write_bytes(_image(rng))
    return root / "set"


def image(root: Path, rng: np.random.Generator) -> Read:
    """A folder with a damaged image."""
    folder = _folder(root, rng)
    content = mutations.damaged(_image(rng), rng)
    (folder / str(rng.choice(["a", "b"])) / "x.png").write_bytes(content)
    return _train(name="folder", dir=str(folder), **_any(rng))


def tree(root: Path, rng: np.random.Generator) -> Read:
    """A folder with odd files."""
    folder = _folder(root, rng)
    if rng.random() < 0.3:
        shutil.copytree(folder, root / "both" / "train")
        shutil.move(folder, root / "both" / "test")
        folder = root / "both"
    classes = [path for path in folder.rglob("*") if path.is_dir()]
    for _ in range(int(rng.integers(1, 4))):
        with_odd = classes[int(rng.integers(len(classes)))]
        try:
            mutations.plant(with_odd, IMAGES, rng)
        except OSError:  # there is something of this name already
            continue
    return _train(name="folder", dir=str(folder), **_any(rng))


def listing(root: Path, rng: np.random.Generator) -> Read:
    """A list with wrong lines."""
    folder = _folder(root, rng)
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    for name in ("train.txt", "test.txt"):
        (root / name).write_bytes(mutations.list_text(paths, rng))
    test = str(root / "test.txt") if rng.random() < 0.5 else ""
    where = {"path": str(root / "train.txt"), "test_path": test, "dir": str(folder)}
    return _train(name="list", **where, **_any(rng))


def archive(root: Path, rng: np.random.Generator) -> Read:
    """An archive to train on."""
    (root / "set.npz").write_bytes(mutations.archive(rng))
    return _train(name="npz", path=str(root / "set.npz"))


def cache(root: Path, rng: np.random.Generator) -> Read:
    """A folder whose cache is damaged, which must not change what is read."""
    folder = _folder(root, rng)
    expected = read_folder(str(folder), size=16).fingerprint()
    for file in root.glob("cache/*.npz"):
        other = mutations.archive(rng) if rng.random() < 0.2 else file.read_bytes()
        file.write_bytes(mutations.damaged(other, rng))

    def read() -> None:
        found = read_folder(str(folder), size=16).fingerprint()
        assert found == expected, "a damaged cache changed what is read"

    return read


def predicted_archive(root: Path, rng: np.random.Generator) -> Read:
    """An archive to predict."""
    file, output = root / "set.npz", root / "out.csv"
    file.write_bytes(mutations.archive(rng))

    def read() -> None:
        check_differs(output, [file])
        with written_whole(output) as out:
            for pixels in stream_images(str(file), (8, 8, 1)):
                out.write(f"{pixels.mean()}\n")

    return read


def predicted_image(root: Path, rng: np.random.Generator) -> Read:
    """A damaged picture, or a folder with odd files, to predict."""
    given = root / "x.csv"
    given.write_bytes(mutations.damaged(_image(rng), rng))
    if rng.random() < 0.3:
        given = _folder(root, rng)
        mutations.plant(given / "a", IMAGES, rng)
    shape = (16, int(rng.choice([16, 24])), int(rng.choice([1, 3])))
    output = root / str(rng.choice(["out.csv", "x.csv"]))

    def read() -> None:
        files = picture_files(given)
        check_differs(output, files)
        with written_whole(output) as out:
            for file in files:
                try:
                    out.write(f"{decode_file(file, shape).mean()}\n")
                except UnreadableError:
                    if len(files) == 1:
                        raise

    return read


KINDS: tuple[Callable[[Path, np.random.Generator], Read], ...]
KINDS = (image, predicted_image, archive, predicted_archive, image, listing, tree, cache)


def _child(read: Read, log: Path) -> None:
    """Reads an input under the limits, and ends this process."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)  # says where it hangs
    signal.alarm(SECONDS)
    try:
        read()
        code = 0
    except InputError as e:
        os.write(2, f"ltjax: error: {e}\n".encode(errors="backslashreplace"))
        code = 2
    except BaseException:  # what must not happen
        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
        code = 1
    os._exit(code)


def outcome(read: Read, log: Path) -> tuple[str, str]:
    """Reads an input in a process of its own.

    Args:
      read: reads it.
      log: file for what it prints.

    Returns:
      "read", "refused", or "failed", and what was printed, without `WARNINGS`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of forks; the child does not compute with it
        child = os.fork()
    if not child:
        _child(read, log)
    _, status = os.waitpid(child, 0)
    lines = log.read_text(errors="replace").splitlines(keepends=True)
    printed = "".join(line for line in lines if not line.startswith(WARNINGS))
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return "failed", f"killed by {signal.Signals(-code).name}\n{printed}"
    if code == 2 and printed.count("\n") == 1 and len(printed) < 3000:
        return "refused", printed
    return ("read" if code == 0 and not printed else "failed"), printed


def fuzz(inputs: int, seed: int, show: Callable[[str], None]) -> dict[str, Any]:
    """Reads random inputs.

    Args:
      inputs: how many.
      seed: of all randomness.
      show: is given a line or more about each failure.

    Returns:
      Counts of the outcomes, seconds in all, and seconds of the slowest input.
    """
    counts: Counter[str] = Counter()
    slowest, started = 0.0, time.monotonic()
    import_module("grain")  # once for all; streams import it when they start
    gc.freeze()
    for number in range(inputs):
        rng = np.random.default_rng([seed, number])
        kind = KINDS[number % len(KINDS)]
        with tempfile.TemporaryDirectory(prefix="ltjax-fuzz-") as folder:
            os.environ["LTJAX_CACHE_DIR"] = str(Path(folder) / "cache")
            read = kind(Path(folder), rng)
            before = time.monotonic()
            verdict, printed = outcome(read, Path(folder) / "log")
        slowest = max(slowest, time.monotonic() - before)
        counts[verdict] += 1
        counts["memory"] += "not enough memory" in printed
        if verdict == "failed":
            show(f"input {number} of seed {seed}, {kind.__name__}: {printed}")
    names = ("read", "refused", "failed", "memory")
    seconds = {"seconds": time.monotonic() - started, "slowest_seconds": slowest}
    return {"inputs": inputs, "seed": seed, **{name: counts[name] for name in names}, **seconds}


def main() -> int:
    """Fuzzes, and stores a row with the counts and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = fuzz(args.inputs, args.seed, lambda text: print(text, flush=True))
    row = {k: f"{v:.2f}" if isinstance(v, float) else str(v) for k, v in found.items()}
    print(", ".join(f"{value} {name}" for name, value in row.items()))
    if args.out:
        new = [row | records.environment("cpu")]
        records.update(
            args.out / "inputs.csv", lambda old: records.merged(old, new, ("inputs", "seed"))
        )
    return int(found["failed"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
