"""Substitutes our subclasses for the classes that OpenRLHF's functions look up."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def substituted(module: ModuleType | type, **replacements: object) -> Iterator[None]:
    """While the block runs, the names of `module`, or of a class, mean `replacements`.

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
