"""Files of other people can be read without running what is in them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "datastill"
SCANNER = ROOT / "data" / "_imagenet_batches.py"  # tests/data/test_imagenet.py: runs nothing
FILES = sorted(ROOT.rglob("*.py"))
UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
}
UNSAFE_CALLS = {
    "torch.load",
    "torch.save",
    "torch.jit.load",
    "torch.hub.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "pd.read_pickle",
    "os.system",
    "os.popen",
    "eval",
    "exec",
    "__import__",
}
READER = ROOT / "convert" / "torch_file.py"  # reads what torch.save wrote, weights alone
every_file = pytest.mark.parametrize(
    "file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES]
)


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def modules(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def calls(file: Path) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree(file)) if isinstance(node, ast.Call))


@every_file
def test_safety__no_unpickling_module_is_imported(file: Path) -> None:
    allowed = {"pickle"} if file == SCANNER else set()
    assert not (set(modules(file)) & UNSAFE_MODULES) - allowed


def test_safety__the_one_file_with_pickle_only_scans() -> None:
    uses = {
        ast.unparse(node)
        for node in ast.walk(tree(SCANNER))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert uses == {"pickle.Unpickler"}


@every_file
def test_safety__nothing_that_runs_what_it_reads_is_called(file: Path) -> None:
    allowed = {"torch.load"} if file == READER else set()
    assert not {ast.unparse(call.func) for call in calls(file)} & UNSAFE_CALLS - allowed


def test_safety__the_reader_of_torch_files_reads_weights_only() -> None:
    (call,) = [call for call in calls(READER) if ast.unparse(call.func) == "torch.load"]
    assert "weights_only=True" in [ast.unparse(keyword) for keyword in call.keywords]


@every_file
def test_safety__no_unsafe_name_is_imported_alone(file: Path) -> None:
    found = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert not found & UNSAFE_CALLS


@every_file
def test_safety__neither_a_shell_nor_pickled_arrays_are_allowed(file: Path) -> None:
    words = {ast.unparse(keyword) for call in calls(file) for keyword in call.keywords}
    assert not [w for w in words if w.startswith(("shell=", "allow_pickle=")) and "=False" not in w]
