"""One's own functions by dotted path."""

import importlib
from collections.abc import Callable, Iterable

from openrlhf_math.errors import UserError


def import_function(what: str, path: str, known: Iterable[str]) -> Callable:
    """The function `package.module.function`. Raises UserError if there is none; what, known: for its sentence."""
    module, _, function = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"'{path}' is no known {what} ({', '.join(known)}) and no package.module.function on PYTHONPATH ({error})"
        ) from None
