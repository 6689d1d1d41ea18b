"""Changes to upstream: a patch rewrites a module's syntax tree at import, a substitution replaces names for a time."""

import ast
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TypeVar

UPSTREAM = "openrlhf"


class PatchError(ImportError):
    """A patch does not fit the installed upstream. problem: what is wrong, with the patch's name. fix: what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)
        self.problem, self.fix = problem, fix

    def __str__(self) -> str:
        return f"{self.problem}: {self.fix}"


Node = TypeVar("Node", bound=ast.AST)


class Rewriter(ast.NodeTransformer):
    """A syntax-tree rewriter that remembers the upstream line of every place it changed."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def replaced(self, old: ast.stmt | ast.expr, new: Node) -> Node:
        """Note the place and give `new` the position of `old`, so that tracebacks keep upstream's lines."""
        self.lines.append(old.lineno)
        return ast.fix_missing_locations(ast.copy_location(new, old))


@dataclass(frozen=True)
class Patch:
    """One change to upstream.

    name: how errors and `openrlhf-math patches` call it.
    why: what breaks without it, and why no subclass can reach it.
    versions: the upstream versions it was written for.
    places: target module -> how many places must be found in it.
    rewriter: makes a fresh `Rewriter` for one module.
    """

    name: str
    why: str
    versions: tuple[str, ...]
    places: dict[str, int]
    rewriter: Callable[[], Rewriter]

    def apply(self, module: str, tree: ast.Module) -> tuple[ast.Module, list[int]]:
        """Rewrite `tree` in place. Returns it with the upstream lines that changed.

        Raises PatchError if upstream's version is unknown or the number of places is another.
        """
        installed = metadata.version(UPSTREAM)
        if installed not in self.versions:
            raise PatchError(
                f"patch '{self.name}' is for {UPSTREAM} {' or '.join(self.versions)}, but {installed} is installed",
                f"install {UPSTREAM}=={self.versions[-1]}",
            )
        rewriter = self.rewriter()
        tree = rewriter.visit(tree)
        expected, found = self.places[module], len(rewriter.lines)
        if found != expected:
            raise PatchError(
                f"patch '{self.name}' must change {expected} places in {module} but found {found}",
                f"the installed {UPSTREAM} {installed} is not the published one; reinstall it",
            )
        return tree, rewriter.lines


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage is collected while the block runs: a finalizer that falls into the making of a syntax tree ends in a
    SystemError before Python 3.11.8 (https://github.com/python/cpython/issues/106905)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def substituted(module: object, **replacements: object) -> Iterator[None]:
    """While the block runs, the names of `module`, or of a class or an object, mean `replacements`.

    OpenRLHF's driver and actors name the classes they build as globals; this lets its functions run as they
    are, with subclasses of ours in place. Raises AttributeError if upstream has no such name.
    """
    originals = {name: getattr(module, name) for name in replacements}
    try:
        for name, replacement in replacements.items():
            setattr(module, name, replacement)
        yield
    finally:
        for name, original in originals.items():
            setattr(module, name, original)
