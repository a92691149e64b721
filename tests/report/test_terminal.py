"""What a run prints at its end: accuracy by group, weakest classes, calibration, the report."""

import io
import json

from rich.console import Console

from ltjax.report import print_table
from tests.report.workdirs import write_workdir


def printed(workdir):
    out = io.StringIO()
    print_table(workdir, console=Console(file=out, width=80))
    return out.getvalue().splitlines()


def test_what_was_learned_in_a_few_lines(tmp_path):
    workdir = write_workdir(tmp_path / "run", names=("cat", "[b]dog[/b]", "\u9e1f"))
    result = json.loads((workdir / "result.json").read_text())
    lines = printed(workdir)
    (weakest,) = (line for line in lines if line.startswith("weakest classes: "))
    named = [part.split(" ")[0] for part in weakest.removeprefix("weakest classes: ").split("%")]
    accuracies = result["test"]["per_class"]
    order = sorted(range(3), key=lambda c: accuracies[c])
    assert named[0] == ("cat", "[b]dog[/b]", "\u9e1f")[order[0]]
    assert f"{100 * min(accuracies):.1f}% (" in weakest
    (calibration,) = (line for line in lines if line.startswith("calibration: "))
    assert f"ECE {100 * result['test']['ece']:.1f}%" in calibration
    assert "--config.data.validation_fraction=0.1 fits a temperature" in calibration
    assert lines[-1] == f"report: {workdir / 'report.html'}"


def test_a_fitted_temperature_is_told(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    path = workdir / "result.json"
    result = json.loads(path.read_text())
    result["post_hoc"] = {"temperature": {"tau": 0, "temperature": 2, "test": {"ece": 0.0321}}}
    path.write_text(json.dumps(result))
    (calibration,) = (line for line in printed(workdir) if line.startswith("calibration: "))
    assert calibration.endswith("3.2% after the temperature, which predict and export apply")
