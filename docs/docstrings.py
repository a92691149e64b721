"""Shows doctests in docstrings as code; otherwise Markdown reads `>>>` as a quotation."""

import griffe


def fenced(text: str) -> str:
    """Puts the paragraphs that are doctests between code fences."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        f"```pycon\n{one.strip()}\n```" if one.lstrip().startswith(">>>") else one
        for one in paragraphs
    )


class Doctests(griffe.Extension):
    """Puts the doctests of every docstring between code fences."""

    def on_instance(self, *, obj, **kwargs):
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
