"""The lock of a workdir."""

import os
import subprocess
import sys

import pytest

from ltjax.errors import InputError
from ltjax.training.safety import locked

HOLD = """
import sys, time
from pathlib import Path
from ltjax.training.safety import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_the_lock_names_its_holder_and_ends_with_sigkill(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        words = f"is in use by process {holder.pid};"
        with pytest.raises(InputError, match=words), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
