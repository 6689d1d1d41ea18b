"""Errors that speak to the person at the terminal."""


class UserError(Exception):
    """Bad input: one sentence that names the flag, file or row at fault and the fix.

    The command line prints the sentence alone and exits with code 2.
    """


def brief(error: Exception, most: int = 1000) -> str:
    """An error's words on one line. Of many, the beginning and the end, where a traceback has its cause."""
    words = " ".join(str(error).split())
    return words if len(words) <= most else f"{words[: most // 2]} ... {words[-most // 2 :]}"
