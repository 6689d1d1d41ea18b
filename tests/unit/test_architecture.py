"""docs/architecture.md names files and what they define; a change that moves one must change the page."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| \d+ \| `([\w/.]+)` \| `(\w+)` \|", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "architecture.md").read_text())
LIVES = (ROOT / "docs" / "architecture.md").read_text().split("\n## ")[1:]


def table(title: str) -> list[list[str]]:
    """The names in the first column, row by row, of the section with that title."""
    (section,) = (life for life in LIVES if life.startswith(title))
    return [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", section, re.M)]


PACKAGES = table("Packages")
GRPO = [folder for row in table("Within `grpo`") for folder in row]


@pytest.mark.parametrize(("path", "name"), ROWS)
def test_page_files_define_their_names(path, name):
    tree = ast.parse((ROOT / "openrlhf_math" / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert name in {node.name for node in tree.body if isinstance(node, kinds)}


def test_life_cycles_are_short():
    completion, weight, answer, attempt = (len(ROW.findall(life)) for life in LIVES[:4])
    assert 0 < completion <= 12 and 0 < weight <= 12 and 0 < answer <= 8 and 0 < attempt <= 12


def imports(path: Path) -> Iterator[str]:
    """The packages of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports in full"
            modules = [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            modules = [each.name for each in node.names]
        for module in modules:
            root, _, rest = module.partition(".")
            package = rest.split(".")[0]
            if root == "openrlhf_math" and (ROOT / root / package).is_dir():
                yield package


def test_every_package_has_one_row():
    folders = {path.parent.name for path in (ROOT / "openrlhf_math").glob("*/__init__.py")}
    listed = [package for row in PACKAGES for package in row]
    assert sorted(listed) == sorted(folders)


@pytest.mark.parametrize("package", [package for row in PACKAGES for package in row])
def test_package_imports_only_from_rows_below(package):
    level = next(number for number, row in enumerate(PACKAGES) if package in row)
    below = {each for row in PACKAGES[level + 1 :] for each in row} | {package}
    up = {
        f"{path.relative_to(ROOT)} imports {found}"
        for path in (ROOT / "openrlhf_math" / package).rglob("*.py")
        for found in imports(path)
        if found not in below
    }
    assert not up


def test_every_grpo_folder_has_one_row():
    assert sorted(GRPO) == sorted(path.parent.name for path in (ROOT / "openrlhf_math" / "grpo").glob("*/__init__.py"))


@pytest.mark.parametrize("folder", GRPO)
def test_grpo_folder_imports_only_from_rows_below(folder):
    above = GRPO[: GRPO.index(folder)]
    for path in (ROOT / "openrlhf_math" / "grpo" / folder).glob("*.py"):
        named = re.findall(
            r"^\s*from openrlhf_math\.grpo\.(\w+)|^\s*from openrlhf_math\.grpo import (.+)$", path.read_text(), re.M
        )
        found = {word for pair in named for name in pair for word in re.split(r"\W+", name)}
        assert not found & set(above), f"{path.name} imports {found & set(above)}"


def test_single_modules_import_no_package_but_patches_and_the_command_line():
    for path in (ROOT / "openrlhf_math").glob("*.py"):
        # __init__.py names what a notebook imports from here, and loads it when it is asked for
        offered = {"evaluation", "rewards"} if path.name == "__init__.py" else set()
        assert set(imports(path)) <= {"patches", "cli"} | offered, path
