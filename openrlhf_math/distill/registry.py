"""Names a user may give: what is registered, or one's own by dotted path."""

import importlib
from collections.abc import Callable

from openrlhf_math.errors import UserError


def find(flag: str, name: str, registry: dict[str, Callable]) -> Callable:
    """A registered function, or one's own by dotted path. Raises UserError naming `flag` if there is none."""
    if name in registry:
        return registry[name]
    module, _, function = name.rpartition(".")
    if not module:
        raise UserError(
            f"{flag} {name}: there is none of that name; choose one of {', '.join(registry)}, "
            "or give your own as package.module.function"
        )
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{flag} {name}: cannot be imported ({error})") from error
