"""A stand-in for a Ray actor that lives in the driver's own process."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ray


class InProcess:
    """Takes the place of a Ray actor class whose one instance is a controller: it waits, it does not compute.

    A process of its own would only import everything once more. `remote(...)` builds the object here, and a method's
    `remote(...)` runs to its end and returns a Ray reference to the result, so that callers need not know.
    """

    def __init__(self, cls: type, **arguments: Any) -> None:
        self._cls, self._arguments = cls, arguments

    def remote(self, *args: Any, **kwargs: Any) -> "Handle":
        return Handle(self._cls(*args, **kwargs, **self._arguments))


class Handle:
    def __init__(self, instance: object) -> None:
        self._instance = instance

    def __getattr__(self, name: str) -> "Method":
        return Method(getattr(self._instance, name))


class Method:
    def __init__(self, function: Callable) -> None:
        self._function = function

    def remote(self, *args: Any, **kwargs: Any) -> "ray.ObjectRef":
        import ray

        return ray.put(self._function(*args, **kwargs))
