"""Errors that speak to the person at the terminal."""


class UserError(Exception):
    """Bad input: one sentence that names the flag, file or row at fault and the mend.

    The command line prints the sentence alone and exits with code 2.
    """
