"""Names a user may give: what is registered, or a user's own by dotted path."""

import importlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from openrlhf_math.errors import UserError

Entry = TypeVar("Entry", bound=Callable)


class Registry(dict[str, Entry]):
    """What is known by name, in the order in which it was registered."""

    def register(self, name: str, **attributes: object) -> Callable[[Entry], Entry]:
        """Of a function or a class: make it known by this name, and set these attributes of it."""

        def add(entry: Entry) -> Entry:
            for attribute, value in attributes.items():
                setattr(entry, attribute, value)
            self[name] = entry
            return entry

        return add

    def find(self, flag: str, name: str, others: Iterable[str] = ()) -> Entry:
        """What is registered, or a user's own by dotted path. Raises UserError naming `flag` if there is none.

        others: further names that the flag may have, for the message.
        """
        if name in self:
            return self[name]
        module, _, function = name.rpartition(".")
        if not module:
            raise UserError(
                f"{flag} {name}: there is none of that name; choose one of {', '.join([*self, *others])}, "
                "or give your own as package.module.function"
            )
        try:
            return getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"{flag} {name}: cannot be imported ({error})") from error
