"""What watches the runs of tests: one that kills them, and one that remembers what it was told."""

from ltjax.training.progress import SilentWatcher


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
