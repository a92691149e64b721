"""Recipes, one per file: `ltjax --config NAME`, or a copy of the file that says something else.

`configs/` at the top of the repository is a link to this folder.
"""
