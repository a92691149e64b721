"""Shows the doctests of docstrings as code; without this Markdown takes `>>>` for quotations."""

import griffe


def fenced(text: str) -> str:
    """Doctest paragraphs between code fences."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        f"```pycon\n{one.strip()}\n```" if one.lstrip().startswith(">>>") else one
        for one in paragraphs
    )


class Doctests(griffe.Extension):
    """Fences the doctests of everything that has a docstring."""

    def on_instance(self, *, obj, **kwargs):
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
