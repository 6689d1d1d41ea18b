"""A command line into settings: what cannot be read is one sentence with the flag and a guess, not a page of usage."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from openrlhf_math.cli.help_text import fit
from openrlhf_math.errors import UserError
from openrlhf_math.training.upstream_flags import Translated


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The settings. `--help` ends the process, as argparse does. Raises UserError for what cannot be read."""
    parsers = list(each_parser(parser))
    for each in parsers:
        each.error = _refuse  # type: ignore[method-assign]
        fit(each)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(_unknown(unknown[0], parsers))
    return args


def shown(found: Translated) -> list[str]:
    """The arguments of a translated command line, after printing what was translated."""
    if found.changes:
        print("Flags of another OpenRLHF release are read as:", file=sys.stderr)
    for old, new in found.changes.items():
        print(f"  {old:<32} {new}", file=sys.stderr)
    return found.arguments


def each_parser(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from each_parser(each)


def accept_former_flags(parser: argparse.ArgumentParser, names: Mapping[str, str]) -> None:
    """Let flags be read under the names they had in the release before, which no help shows. names: flag to setting."""
    actions = {action.dest: action for action in parser._actions}
    for flag, setting in names.items():
        parser._option_string_actions[flag] = actions[setting]


def as_typed(sentence: str, parser: argparse.ArgumentParser, arguments: Sequence[str]) -> str:
    """The sentence with each flag under the name that was typed, where it has several and the sentence another."""
    typed = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    for each in each_parser(parser):
        for action in each._actions:
            names = [name for name in action.option_strings if name in typed]
            for other in set(action.option_strings) - typed if names else ():
                sentence = re.sub(rf"(?<![\w.-]){re.escape(other)}(?![\w.-]*\w)", names[-1], sentence)
    return sentence


def _refuse(message: str) -> NoReturn:
    raise UserError(message)


def _unknown(word: str, parsers: list[argparse.ArgumentParser]) -> str:
    if not word.startswith("-"):
        return f"{word!r} is not a flag, and no flag takes it; put quotes around a value with spaces"
    flag = word.partition("=")[0]
    options = [option for parser in parsers for action in parser._actions for option in action.option_strings]
    # The last part of a dotted name is what people remember.
    ends = [option for option in options if option.endswith((f".{flag.lstrip('-')}", f"_{flag.lstrip('-')}"))]
    like = {option: max(_likeness(flag, option), _likeness(flag, option[: len(flag)])) for option in options}
    close = [
        option
        for option in sorted(like, key=like.__getitem__, reverse=True)
        if like[option] > max(0.7, 0.9 * max(like.values()))
    ]
    guesses = list(dict.fromkeys([*ends, *close]))[:3]
    guess = f"; did you mean {' or '.join(guesses)}?" if guesses else ""
    return f"unknown flag {flag}{guess or '; --help lists all flags'}"


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
