"""What the makers of golden files from published code share; the tests do not import it."""

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np
import torch

# Modules that several checkouts have.
COMMON = ("loss", "losses", "model", "models", "opts", "utils")


def published(folder, name):
    """A module of a checkout; those of IB-Loss read the command line when they are imported."""
    before, sys.argv = sys.argv, ["made"]
    sys.path.insert(0, str(folder.resolve()))
    try:
        return importlib.import_module(name)
    finally:
        sys.argv = before
        sys.path.pop(0)
        for known in list(sys.modules):  # another checkout has them too
            if known.split(".")[0] in COMMON:
                del sys.modules[known]


def write(text, folder, makers):
    """Reads a checkout for each maker, `--NAME FOLDER`; writes `NAME.npz` of those that are given.

    Args:
      text: what the program says of itself.
      folder: of the files.
      makers: by name, functions of a checkout to arrays by name.
    """
    parser = argparse.ArgumentParser(description=text)
    for name in makers:
        parser.add_argument(f"--{name}", type=Path, help="a checkout of the published code")
    given = parser.parse_args()
    torch.manual_seed(0)
    for name, make in makers.items():
        if getattr(given, name) is None:
            continue
        found = {key: np.asarray(x) for key, x in make(getattr(given, name)).items()}
        np.savez_compressed(folder / f"{name}.npz", **found)
