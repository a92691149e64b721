"""`python -m ltjax`: the command line."""

from ltjax.main import console

console()
