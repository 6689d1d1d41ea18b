"""The log of a run: what libraries print while the terminal shows the run's own display."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def printed_to(log: Path) -> Iterator[None]:
    """While the block runs, what this process prints and logs is appended to a file.

    A handler of `logging` keeps the stream that it was made with, at the import of its library. In a process that was
    forked with its imports (`colocation/preloaded.py`) that is the terminal: such handlers are turned, too.
    """
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    with (
        log.open("a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        contextlib.ExitStack() as stack,
    ):
        for handler in handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stdout__, sys.__stderr__):
                stack.callback(handler.setStream, handler.stream)
                handler.setStream(file)
        yield
