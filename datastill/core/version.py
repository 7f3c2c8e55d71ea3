"""Versions of installed packages."""

from importlib.metadata import PackageNotFoundError, version


def package_version(name: str) -> str:
    """Return the version of a package; "0+source" where it runs from its source folder."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "0+source"
