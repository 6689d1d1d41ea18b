"""The import hook: a target module is compiled from its rewritten syntax tree, nothing on disk changes."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

from openrlhf_math.patches.patch import PatchError, without_collection
from openrlhf_math.patches.series import rewrite, targets


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
