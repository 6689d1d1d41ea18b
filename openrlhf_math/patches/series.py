"""The series: every patch, in the order it is applied, and what each does to an installed module."""

import ast
import difflib
from pathlib import Path

from openrlhf_math.patches import devices, flash_attention, parsers, remote_code
from openrlhf_math.patches.patch import Patch

SERIES: tuple[Patch, ...] = (devices.PATCH, flash_attention.PATCH, parsers.PATCH, remote_code.PATCH)


def targets() -> dict[str, list[Patch]]:
    """Target module -> the patches that change it."""
    found: dict[str, list[Patch]] = {}
    for patch in SERIES:
        for module in patch.places:
            found.setdefault(module, []).append(patch)
    return found


def rewrite(module: str, source: str, filename: str) -> ast.Module:
    """The syntax tree of `module` with every patch that targets it. Raises PatchError."""
    tree = ast.parse(source, filename)
    for patch in targets().get(module, ()):
        tree, _ = patch.apply(module, tree)
    return ast.fix_missing_locations(tree)


def changed_lines(patch: Patch, module: str) -> list[int]:
    """The upstream lines of `module` that `patch` changes. Raises PatchError if it does not fit."""
    _, lines = patch.apply(module, ast.parse(source_of(module).read_text()))
    return sorted(lines)


def diff(patch: Patch, module: str) -> str:
    """The patch's effect on the installed module as a unified diff.

    Both sides are printed from the syntax tree, so comments are left out and only real changes show.
    """
    source = source_of(module).read_text()
    before = ast.unparse(ast.parse(source))
    after = ast.unparse(ast.fix_missing_locations(patch.apply(module, ast.parse(source))[0]))
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{module} (upstream)", f"{module} ({patch.name})", lineterm="", n=2
    )
    return "\n".join(lines)


def source_of(module: str) -> Path:
    """Where the installed upstream module lies."""
    return parsers._source(module)
