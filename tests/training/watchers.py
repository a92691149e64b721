"""What watches the runs of tests: one that kills them, and one that remembers what it was told."""

from ltjax.training.progress import SilentWatcher


def saved(workdir):
    """The steps of a run's checkpoints: whether there is anything to resume from."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


class Killed(BaseException):
    """Stands for a kill: nothing catches it on purpose."""


class KillAt(SilentWatcher):
    """Raises at the first log at or after a step.

    Args:
      step: the step.
      error: what is raised.
    """

    def __init__(self, step, error=Killed):
        self.step, self.error = step, error

    def update(self, step, text):
        if step >= self.step:
            raise self.error


class Notes(SilentWatcher):
    """Remembers what the user was told."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)
