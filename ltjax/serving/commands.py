"""The modes of the command line that use a finished run: its flags in, lines and files out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from ltjax.config import Config
from ltjax.errors import InputError, one_line
from ltjax.evaluation.target import SHOWN
from ltjax.serving import export as exporting
from ltjax.serving.embed import embed, of_run, of_weights
from ltjax.serving.evaluate import evaluate
from ltjax.serving.load import load
from ltjax.serving.onnx import check_onnx
from ltjax.serving.output import check_differs, written_whole
from ltjax.serving.predict import predict
from ltjax.training.workdir import read_finished


def _evaluate(given: flags.FlagValues, config: Config) -> None:
    if given.output:
        data = (config.data.path, config.data.test_path)
        inputs = [*read_finished(given.workdir).files, *map(Path, filter(None, data))]
        check_differs(Path(given.output), inputs)
    target = given.target_prior or ""
    result = evaluate(given.workdir, config.data, checkpoint=given.checkpoint, target_prior=target)
    if given.output:
        with written_whole(Path(given.output)) as file:
            file.write(json.dumps(result, indent=2) + "\n")
    for line in result["data"]["notes"]:
        _ignored(one_line(line))
    print(f"{'images':18} {result['data']['images']:,}, {result['data']['part']}")
    for name, value in result["test"].items():
        if name != "per_class":
            low_high = result["intervals"][0][name]
            spread = "" if low_high is None else f"  [{low_high[0]:.4f}, {low_high[1]:.4f}]"
            print(f"{name:18} {_shown(value)}{spread}")
    for how, under in result.get("target_prior", {}).get(target, {}).items():
        shown = "  ".join(f"{name} {_shown(under[name])}" for name in SHOWN)
        print(f"classes as in {one_line(target)}, predictions {how.replace('_', ' ')}: {shown}")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _predict(given: flags.FlagValues, config: Config) -> None:
    output, source = _required_output(given), _required_input(given)
    done = predict(
        load(given.workdir, given.checkpoint),
        source,
        output,
        top_k=given.top_k,
        target_prior=given.target_prior or "",
        skip=_skipped,
        ignore=_ignored,
    )
    print(f"{one_line(output)}: {done.predicted} predicted, {len(done.skipped)} skipped")


def _embed(given: flags.FlagValues, config: Config) -> None:
    output, source = _required_output(given), _required_input(given)
    if given.weights:
        embedder = of_weights(given.weights)
    else:
        embedder = of_run(load(given.workdir, given.checkpoint))
    done = embed(embedder, source, output, skip=_skipped, ignore=_ignored)
    labels = "with" if done.labeled else "without"
    print(
        f"{one_line(output)}: {done.embedded} rows of {done.size} features, {labels} labels, "
        f"{len(done.skipped)} skipped"
    )


def _export(given: flags.FlagValues, config: Config) -> None:
    output = _required_output(given)
    if given.format == "safetensors" and given["platforms"].present:
        raise InputError(
            f"--platforms = {','.join(given.platforms)} does not go with --format=safetensors, "
            "which writes no program; leave one of them out"
        )
    exporting.check_platforms(given.platforms)
    exporting.check_folder(output)
    if given.format == "onnx":
        check_onnx()
    trained = load(given.workdir, given.checkpoint)
    folded = exporting.write(trained, output, platforms=given.platforms, format=given.format)
    takes = "PICTURES" if len(trained.image_shape) == 3 else "FEATURES.npy"
    how = "folded into one" if folded else "kept apart"
    program = (
        f" (whitening and classifier {how}); python {one_line(Path(output) / 'run.py')} {takes}"
    )
    names = [name for name in exporting.FILES if (Path(output) / name).exists()]
    print(f"{one_line(output)}: {', '.join(names)}{program if 'run.py' in names else ''}")


def _ignored(line: str) -> None:
    print(f"ltjax: {line}", file=sys.stderr)


def _skipped(line: str) -> None:
    print(f"ltjax: skipped {one_line(line)}", file=sys.stderr)


def _required_output(given: flags.FlagValues) -> str:
    if not given.output:
        raise InputError(f"--output is missing; --mode={given.mode} writes there")
    return str(given.output)


def _required_input(given: flags.FlagValues) -> str:
    if not given.input:
        raise InputError("--input is missing; give an image, a folder, a list or an .npz file")
    return str(given.input)


# By the value of `--mode`.
COMMANDS: dict[str, Callable[[flags.FlagValues, Config], None]] = {
    "evaluate": _evaluate,
    "predict": _predict,
    "embed": _embed,
    "export": _export,
}
