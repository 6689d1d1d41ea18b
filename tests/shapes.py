"""A type checker for jaxtyping's import hook: it checks the annotations that have shapes, and leaves others to mypy."""

from collections.abc import Callable
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for mypy


def has_shape(hint: object) -> bool:
    """Whether an annotation is of a tensor, or of a tuple, list or union with one."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(has_shape, get_args(hint)))


def check_shapes(function: Callable) -> Callable:
    """beartype, for the annotations with shapes. A test may pass what only looks like the type of another parameter."""
    function.__annotations__ = {
        name: hint if has_shape(hint) else Any for name, hint in function.__annotations__.items()
    }
    return _checked(function)
