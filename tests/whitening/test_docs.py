"""The examples of docs/whitening.md."""

import re
from pathlib import Path


def test_examples_run(capsys):
    text = (Path(__file__).parents[2] / "docs" / "whitening.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/whitening.md", "exec"), names)
    assert capsys.readouterr().out.split("\n") == ["True", "(64, 10) (10,)", "True", "True", ""]
