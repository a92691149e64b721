"""Predictions for pictures, streamed from a file, a folder or an `.npz` to CSV or JSON lines."""

import csv
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import batched, chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import numpy as np

from ltjax.data.decode import UnreadableError, decode_file, picture_files
from ltjax.errors import InputError, require
from ltjax.evaluation.scores import log_softmax
from ltjax.serving.trained import Trained, folded_function
