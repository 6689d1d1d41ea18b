"""docs/architecture.md names files and what they define; a change that moves one must change the page."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| \d+ \| `([\w/.]+)` \| `(\w+)` \|", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "architecture.md").read_text())
LIVES = (ROOT / "docs" / "architecture.md").read_text().split("\n## ")[1:]


@pytest.mark.parametrize(("path", "name"), ROWS)
def test_a_file_of_the_page_defines_its_name(path, name):
    tree = ast.parse((ROOT / "openrlhf_math" / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert name in {node.name for node in tree.body if isinstance(node, kinds)}


def test_lives_are_short():
    completion, weight, answer, attempt = (len(ROW.findall(life)) for life in LIVES)
    assert 0 < completion <= 12 and 0 < weight <= 12 and 0 < answer <= 8 and 0 < attempt <= 12
