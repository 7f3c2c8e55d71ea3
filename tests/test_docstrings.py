"""Examples in docstrings run, and public names are documented with arguments and an example."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import datastill

MODULES = [
    module.name
    for module in pkgutil.walk_packages(datastill.__path__, "datastill.")
    if not module.name.endswith("__main__")
]
# what a plug-in author subclasses or calls, and components that are not exported
ALSO_DOCUMENTED = (
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
    "networks.alexnet.AlexNet",
    "networks.mobilenet.MobileNet",
    "networks.resnet10.ResNet10",
    "networks.timm.Timm",
    "networks.vgg11.VGG11",
    "objectives.byol.BYOL",
    "objectives.simclr.SimCLR",
    "objectives.supervised.Supervised",
    "objectives.vicreg.VICReg",
)


def missing_sections(documented: object) -> list[str]:
    text = inspect.getdoc(documented) or ""
    return [section for section in ("Args:", "Example:\n    >>> ") if section not in text]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings__examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), report=True)
    assert not result.failed, f"{result.failed} of {result.attempted} examples failed; see stdout"


@pytest.mark.parametrize("name", sorted({*datastill.__all__} - {"__version__"}))
def test_docstrings__public_names_have_arguments_and_an_example(name: str) -> None:
    missing = missing_sections(getattr(datastill, name))
    assert not missing, f"{name} has no {' and no '.join(missing)}"


@pytest.mark.parametrize("path", ALSO_DOCUMENTED)
def test_docstrings__components_have_arguments_and_an_example(path: str) -> None:
    module, _, name = path.rpartition(".")
    documented = getattr(importlib.import_module(f"datastill.{module}"), name)
    assert not (missing := missing_sections(documented)), (
        f"{name} has no {' and no '.join(missing)}"
    )


PAGES = [
    page
    for page in sorted(Path(datastill.__file__).parents[1].glob("**/*.md"))
    if not {"records", ".venv", ".venv-extras", "runs"} & set(page.parts)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages__lines_have_at_most_120_characters(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]
