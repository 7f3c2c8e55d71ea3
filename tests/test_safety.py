"""Files of other people can be read without running what is in them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from test_layers import FILES, ROOT, imported, tree

SCANNER = ROOT / "data" / "_imagenet_batches.py"  # tests/data/test_imagenet.py: runs nothing
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
WRITER = ROOT / "export.py"  # tests/test_export.py: torch.load reads it with weights_only


def calls(file: Path) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree(file)) if isinstance(node, ast.Call))


def test_safety__nothing_that_runs_what_it_reads_is_imported() -> None:
    for file in FILES:
        allowed = {"pickle"} if file == SCANNER else set()
        names = set(imported(file))
        assert not {name.split(".")[0] for name in names} & UNSAFE_MODULES - allowed, file
        assert not names & UNSAFE_CALLS, file


def test_safety__nothing_that_runs_what_it_reads_is_called() -> None:
    for file in FILES:
        allowed = {READER: {"torch.load"}, WRITER: {"torch.save"}}.get(file, set())
        assert not {ast.unparse(call.func) for call in calls(file)} & UNSAFE_CALLS - allowed, file
        words = {ast.unparse(keyword) for call in calls(file) for keyword in call.keywords}
        risky = [word for word in words if word.startswith(("shell=", "allow_pickle="))]
        assert all("=False" in word for word in risky), file


def test_safety__the_one_file_with_pickle_only_scans() -> None:
    uses = {
        ast.unparse(node)
        for node in ast.walk(tree(SCANNER))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert uses == {"pickle.Unpickler"}


def test_safety__the_reader_of_torch_files_reads_weights_only() -> None:
    (call,) = [call for call in calls(READER) if ast.unparse(call.func) == "torch.load"]
    assert "weights_only=True" in [ast.unparse(keyword) for keyword in call.keywords]
