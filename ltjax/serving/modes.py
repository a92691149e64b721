"""What is done with a finished run: evaluate, predict, export. Each needs its workdir alone."""

import ast
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltjax import config as configs
from ltjax.errors import InputError

MODES = ("evaluate", "predict", "export")


class Request(NamedTuple):
    """What the flags ask for."""

    mode: str
    workdir: str | None
    input: str | None
    output: str | None


def overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Takes `--config.data.KEY=VALUE` out of the arguments where the mode is not training.

    They change the stored configuration, so there is no config file for them to change.

    Raises:
      InputError: another key, or an unknown one.

    >>> overrides(["main", "--mode=evaluate", "--config.data.seed=3"])
    (['main', '--mode=evaluate'], {'seed': 3})
    """
    words = " ".join(argv).replace("--mode ", "--mode=").split()
    if not any(f"--mode={mode}" in words for mode in MODES):
        return list(argv), {}
    kept, found = [], {}
    for arg in argv:
        name, _, text = arg.lstrip("-").partition("=")
        if not name.startswith("config."):
            kept.append(arg)
            continue
        key = name.removeprefix("config.")
        if key not in configs.SCHEMA or not key.startswith("data."):
            raise InputError(f"{name} cannot be changed after training; only config.data keys can")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        default = configs.SCHEMA[key].default
        found[key.removeprefix("data.")] = text if isinstance(default, str) else value
    return kept, found


def serve(
    request: Request, changes: dict[str, Any], *, top_k: int, platforms: Sequence[str]
) -> None:
    """Does what a request asks for.

    Raises:
      InputError: a missing or bad value.
    """
    if not request.workdir:
        raise InputError("--workdir is missing; give the workdir of a finished run")
    if request.mode == "evaluate":
        return _evaluate(request, changes)
    if not request.output:
        raise InputError(f"--output is missing; --mode={request.mode} writes there")
    from ltjax.serving import export, predict
    from ltjax.serving import load as trained

    if request.mode == "export":
        folded = export.write(trained.load(request.workdir), request.output, platforms=platforms)
        how = "whitening and classifier folded" if folded else "whitening and classifier apart"
        print(f"{request.output}: model.stablehlo, model.json, run.py ({how})")
        return None
    if not request.input:
        raise InputError("--input is missing; give a picture, a folder or an .npz file")
    network = trained.load(request.workdir)

    def skip(line: str) -> None:
        print(f"ltjax: skipped {line}", file=sys.stderr)

    done = predict.predict(network, request.input, request.output, top_k=top_k, skip=skip)
    print(f"{request.output}: {done.predicted} predicted, {len(done.skipped)} skipped")
    return None


def _evaluate(request: Request, changes: dict[str, Any]) -> None:
    from ltjax.serving.evaluate import evaluate
    from ltjax.training.restore import read_config

    stored = read_config(str(request.workdir)).data
    result = evaluate(str(request.workdir), dataclasses.replace(stored, **changes))
    if request.output:
        Path(request.output).write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result["test"].items():
        if name != "per_class":
            low_high = result["intervals"][0][name]
            spread = "" if low_high is None else f"  [{low_high[0]:.4f}, {low_high[1]:.4f}]"
            print(f"{name:18} {'–' if value is None else f'{value:.4f}'}{spread}")
