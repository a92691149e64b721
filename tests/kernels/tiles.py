"""A mark of tests that need a CPU with matrix tiles."""

import pytest

from ltjax.kernels.build import load

has_tiles = pytest.mark.skipif(not load().tiles, reason="this CPU has no matrix tiles (AMX)")
