"""Examples in docstrings run, and public names are documented with arguments and an example."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import datastill
from datastill.core.lookup import find, names

MODULES = [
    module.name
    for module in pkgutil.walk_packages(datastill.__path__, "datastill.")
    if not module.name.endswith("__main__")
]
# what a plug-in author subclasses or calls, and components that are not exported
CALLED = (
    "augment.crop_flip.CropFlip",
    "augment.dsa.Dsa",
    "ops.effective_rank.effective_rank",
    "ops.effective_rank.normalized_std",
    "ops.kernels.InfiniteWidthMLP",
    "ops.knn.knn_predict",
    "ops.krr.krr_predict",
    "ops.krr.solve_positive",
    "ops.label_solve.solve_labels",
    "ops.optimizers.Lamb",
    "ops.schedules.Cosine",
    "ops.schedules.Linear",
    "ops.schedules.HalfDrop",
    "ops.schedules.set_learning_rates",
    "ops.zca.Zca",
    "networks.architecture.Network",
)
FOLDERS = ("datastill.methods", "datastill.networks", "datastill.objectives")
DOCUMENTED = [
    *(getattr(datastill, name) for name in datastill.__all__ if name != "__version__"),
    *(find(folder, name) for folder in FOLDERS for name in names(folder)),
    *(pkgutil.resolve_name(f"datastill.{path}") for path in CALLED),
]


def missing_sections(documented: object) -> list[str]:
    text = inspect.getdoc(documented) or ""
    return [section for section in ("Args:", "Example:\n    >>> ") if section not in text]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings__examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), report=True)
    assert not result.failed, f"{result.failed} of {result.attempted} examples failed; see stdout"


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda documented: documented.__name__)
def test_docstrings__public_names_have_arguments_and_an_example(documented: object) -> None:
    assert not missing_sections(documented)


PAGES = [
    page
    for page in sorted(Path(datastill.__file__).parents[1].glob("**/*.md"))
    if not {"records", ".venv", ".venv-extras", "runs"} & set(page.parts)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages__lines_have_at_most_120_characters(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]
