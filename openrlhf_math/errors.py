"""Errors whose text is shown to the user."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input: one sentence that names the flag, file or row at fault and the fix.

    The command line prints the sentence alone and exits with code 2.
    """


class BadValue(ValueError):
    """A field of some settings has a value that cannot work.

    name, value: of the field. wanted: what it must be, such as "at least 1". A command names its flag by `in_flags`.
    """

    def __init__(self, name: str, value: object, wanted: str) -> None:
        super().__init__(name, value, wanted)
        self.name, self.value, self.wanted = name, value, wanted

    def __str__(self) -> str:
        return f"{self.name} is {self.value!r}, it must be {self.wanted}"


@contextmanager
def in_flags(**flags: str) -> Iterator[None]:
    """A BadValue of the block becomes a UserError. flags: by field the flag, where it is not spelled as the field."""
    try:
        yield
    except BadValue as error:
        flag = flags.get(error.name, f"--{error.name.replace('_', '-')}")
        raise UserError(f"{flag} {error.value if error.value != '' else repr('')}: give {error.wanted}") from None


def at_least(least: int, values: object, *names: str, error: type[Exception] = UserError) -> None:
    """Raise `error`, which names the flag, where one of these attributes is below `least`. None is left alone."""
    for name in names:
        value = getattr(values, name)
        if value is not None and value < least:
            raise error(f"--{name.replace('_', '-')} {value}: give {least} or more")


def brief(error: Exception, most: int = 1000) -> str:
    """An error's words on one line. Of many, the beginning and the end, where a traceback has its cause."""
    words = " ".join(str(error).split())
    return words if len(words) <= most else f"{words[: most // 2]} ... {words[-most // 2 :]}"


def first_line(error: BaseException, most: int = 300) -> str:
    """The first line of an error's words without its full stop; its class where it has no words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:most].rstrip(".")
