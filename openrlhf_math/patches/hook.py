"""The import hook and the series of patches, in the order in which they are applied.

A target module is compiled from its rewritten syntax tree; nothing on disk changes.
"""

import ast
import difflib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

from openrlhf_math.patches import devices, flash_attention, parsers, remote_code
from openrlhf_math.patches.patch import Patch, PatchError, without_collection


class PatchedLoader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # Not SourceFileLoader's: bytecode caches must be neither read (they hold the unpatched module) nor
        # written (another process without the patches would read them).
        path = self.get_filename(fullname)
        with without_collection():
            tree = rewrite(fullname, self.get_data(path).decode(), path)
            return compile(tree, path, "exec", dont_inherit=True)


class PatchFinder(importlib.abc.MetaPathFinder):
    def __init__(self) -> None:
        self.targets = frozenset(targets())

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.targets:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = PatchedLoader(fullname, spec.origin)
        return spec


def install() -> None:
    """Register the series in this process, once. Raises PatchError if it comes too late for a target."""
    if any(isinstance(finder, PatchFinder) for finder in sys.meta_path):
        return
    finder = PatchFinder()
    late = sorted(finder.targets & set(sys.modules))
    if late:
        raise PatchError(f"{', '.join(late)} was imported before openrlhf_math", "import openrlhf_math first")
    sys.meta_path.insert(0, finder)


def applied() -> dict[str, bool]:
    """Target module -> whether this process imported it patched. Modules not imported yet are left out."""
    return {
        name: isinstance(getattr(sys.modules[name], "__loader__", None), PatchedLoader)
        for name in sorted(targets())
        if name in sys.modules
    }


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
    """The path of the installed upstream module."""
    return parsers._source(module)
