"""What SECURITY.md guarantees, as far as it can be tested without engines. More of it: test_remote_code.py,
test_wandb_key.py, test_distill_endpoint.py (the teacher's key), test_serving.py (the server's), test_checkpoints.py."""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import openrlhf_math
from openrlhf_math.data.problems import read_rows
from openrlhf_math.errors import UserError

PACKAGE = Path(openrlhf_math.__file__).parent
SOURCES = {f"openrlhf_math/{path.relative_to(PACKAGE)}": path for path in sorted(PACKAGE.rglob("*.py"))}

UNPICKLE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
RUNS_TEXT = {
    "openrlhf_math/tools/sandbox/session.py": "the model's code, in a process with no access to anything",
    "openrlhf_math/patches/parsers.py": "upstream's own source, of which the parser's part is run",
    "openrlhf_math/patches/hook.py": "upstream's own source, rewritten",
}
IMPORTS_BY_NAME = {
    "openrlhf_math/registry.py": "flags that take a dotted path",
    "openrlhf_math/cli/__init__.py": "the commands, of a fixed table",
    "openrlhf_math/__init__.py": "what the package offers, of a fixed table",
    "openrlhf_math/cli/completion.py": "the commands, of a fixed table",
    "openrlhf_math/cli/experiments.py": "the experiments, of a fixed table",
    "openrlhf_math/colocation/strategy.py": "a module of DeepSpeed's",
    "openrlhf_math/colocation/preloaded.py": "modules that the command which begins it names",
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a module with its function as text, "torch.load" for instance."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def arguments(call: ast.Call) -> dict[str, str]:
    return {each.arg: ast.unparse(each.value) for each in call.keywords if each.arg}


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def offenders(wrong) -> list[str]:
    """Places of calls of ours that are `wrong`, a function (module, function's name, arguments by name)."""
    return [
        f"{name}:{call.lineno}"
        for name, path in SOURCES.items()
        for function, call in calls(path)
        if wrong(name, function, arguments(call))
    ]


def test_no_module_unpickles():
    def unpickles(name: str, function: str, given: dict[str, str]) -> bool:
        if function.endswith("torch.load"):
            return given.get("weights_only") != "True"
        off = (given.get("weights_only", "True"), given.get("allow_pickle", "False"))
        return off != ("True", "False") or function.endswith(("read_pickle", "yaml.load"))

    assert not [name for name, path in SOURCES.items() if imported(path) & UNPICKLE]
    assert not offenders(unpickles)


def test_no_module_evaluates_text_or_runs_a_shell():
    assert not offenders(
        lambda name, function, given: (
            (function in ("eval", "exec", "compile") and name not in RUNS_TEXT)
            or function in ("os.system", "os.popen", "__import__")
            or given.get("shell", "False") != "False"
        )
    )


def test_only_listed_modules_import_by_name():
    assert not offenders(
        lambda name, function, given: function.split(".")[-1] == "import_module" and name not in IMPORTS_BY_NAME
    )


@pytest.mark.parametrize("kind", ["script", "script folder", "pickle"])
def test_data_set_runs_no_code(tmp_path, kind):
    mark = tmp_path / "mark"
    folder = tmp_path / "problems"
    folder.mkdir()
    if kind == "pickle":
        opcodes = f"cbuiltins\nopen\n(V{mark}\nVw\ntR.".encode()  # open(mark, "w")
        (folder / "train.pkl").write_bytes(opcodes)
    else:
        (folder / "problems.py").write_text(f"open({str(mark)!r}, 'w').close()\nimport datasets\n")
    given = folder / "problems.py" if kind == "script" else folder
    with pytest.raises(UserError):
        list(read_rows(str(given), "train"))
    assert not mark.exists()


class RunsCode:
    """What a tampered checkpoint may hold: unpickled, it opens a file for writing."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_checkpoint_runs_no_code(tmp_path):
    import torch

    from openrlhf_math.checkpoints.state import load_plain

    mark, checkpoint = tmp_path / "mark", tmp_path / "model_states.pt"
    torch.save({"module": {"weight": torch.ones(2)}, "client_state": RunsCode(mark)}, checkpoint)
    with pytest.raises(pickle.UnpicklingError, match="io.open"):
        load_plain(checkpoint)
    assert not mark.exists()
    torch.load(checkpoint, weights_only=False)
    assert mark.exists(), "unpickled, it would have run"
