"""Words for a process that cannot say its own: one that is killed, or that Ray ends."""

import contextlib
import subprocess
import sys

CHILD = "import sys; sys.stderr.write(sys.stdin.read().rpartition(chr(0))[2])"


class LastWords:
    """While the block runs, a small process waits; if this one ends within it, the other prints what was said last.

    first: said as the block begins. always: a line after all words.
    """

    def __init__(self, first: str, always: str) -> None:
        self.first, self.always = first, always

    def __enter__(self) -> "LastWords":
        command = [sys.executable, "-S", "-c", CHILD]
        # In its own session, so that Ctrl-C, which this process outlives, does not end it.
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        assert self._child.stdin  # a pipe
        self._pipe = self._child.stdin
        self.say(self.first)
        return self

    def __exit__(self, *error: object) -> None:
        self._write("\0")
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._child.wait()

    def say(self, words: str) -> None:
        """In place of what was said before."""
        self._write(f"\0{words}\n{self.always}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed: then there are no last words
            self._pipe.write(text)
            self._pipe.flush()
