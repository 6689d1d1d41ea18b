"""The `openrlhf-math` commands that stand in pages, scripts and docstrings, and whether their parsers take them."""

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from openrlhf_math.cli import COMMANDS

FENCE = re.compile(r"^```.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(openrlhf-math [^`\n]*)`")
DOCSTRING = re.compile(r'^r?"""(.*?)"""', re.DOTALL)
ARRAY = re.compile(r'"?\$(\{\w+\[@\][^}]*\}|@)"?')  # of flags, which are not known here
VARIABLE = re.compile(r"\$(\{[^}]*\}|\w+|\([^)]*\))")
END = re.compile(r"[|&;()<>]+")  # of a command, in what a shell reads
SAID = re.compile(r"\s*#|openrlhf-math \S+:")  # a comment, or what a command has answered
ELLIPSIS = "..."  # where a page omits flags


def commands_in(path: Path) -> Iterator[list[str]]:
    """The words of every command behind `openrlhf-math`, a variable's place taken by 1."""
    text = path.read_text()
    if path.suffix == ".md":
        named = INLINE.findall(FENCE.sub("", text))
        text = "\n".join([*FENCE.findall(text), *(f"{one} {ELLIPSIS}" for one in named)])
    if path.suffix == ".py":
        text = "\n".join(DOCSTRING.findall(text))
    for line in text.replace("\\\n", " ").replace("-m openrlhf_math ", "openrlhf-math ").splitlines():
        line = VARIABLE.sub("1", ARRAY.sub("", line))
        if re.search(r"openrlhf-math\s", line) and not SAID.match(line):
            yield from _commands(line)


def _commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    command: list[str] | None = None
    for word in lexer:
        if END.fullmatch(word):
            if command:
                yield command
            command = None
        elif command is not None:
            command.append(word)
        elif word == "openrlhf-math":
            command = []
    if command:
        yield command


def flags_named_in(page: Path) -> Iterator[str]:
    """Flags that stand alone in a page's sentences and tables, as in `--seed N`: which command's, the page says."""
    for code in re.findall(r"`([^`\n]*)`", FENCE.sub("", page.read_text())):
        if code.startswith("--"):
            yield from re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", code)


def known_flags() -> set[str]:
    """Of all commands."""
    parsers = [
        importlib.import_module(f"openrlhf_math.cli.{name.replace('-', '_')}").build_parser(name) for name in COMMANDS
    ]
    flags = set()
    while parsers:
        parser = parsers.pop()
        flags.update(parser._option_string_actions)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    return flags


def check(words: list[str]) -> None:
    """Raises SystemExit, with the parser's message on standard error, if the command would not parse.

    Of a command that is cut short, by an ellipsis or because a sentence names it, the mode and the flags that are there
    must exist.
    """
    name, *rest = words
    if words[-1] in ("--help", "--version"):
        return
    if name not in COMMANDS:
        raise SystemExit(f"there is no command {name}")
    command = importlib.import_module(f"openrlhf_math.cli.{name.replace('-', '_')}")
    parser = command.build_parser(name)
    rest = getattr(command, "translate", lambda parser, words: words)(parser, rest)
    if not any(word.startswith(ELLIPSIS) for word in rest):
        parser.parse_args(rest)
        return
    modes = next((one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)), None)
    if modes and not rest[0].startswith(ELLIPSIS):
        if rest[0] not in modes:
            raise SystemExit(f"{name} has no {rest[0]}")
        parser = modes[rest[0]]
    for word in rest:
        if word.startswith("--") and word.partition("=")[0] not in parser._option_string_actions:
            raise SystemExit(f"{name} has no {word}")
