"""The long description of the package: README.md without what only its repository can show.

Everything else about the package is in pyproject.toml.
"""

import re
from pathlib import Path

RELATIVE = r"\((?!https?:|#)([^)]+)\)"  # the target of a link or picture in the repository


def long_description(readme: str) -> str:
    """Leave out pictures with their captions, and turn relative links into paths in code font."""
    text = re.sub(rf"!\[[^]]*\]{RELATIVE}\n\n(\*[^*]+\*\n\n)?", "", readme)
    text = re.sub(r"\[((?!https?:)[^]]+)\]\(\1\)", r"`\1`", text)
    return re.sub(rf"\[([^]]+)\]{RELATIVE}", r"\1 (`\2`)", text)


if __name__ == "__main__":
    from setuptools import setup

    setup(
        long_description=long_description(Path("README.md").read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
    )
