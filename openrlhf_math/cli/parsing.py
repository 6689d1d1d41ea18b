"""A command line into settings: what cannot be read is one sentence with the flag and a guess, not a page of usage.

Help fits the terminal: the texts around the flags are wrapped, with their tables' columns kept.
"""

import argparse
import difflib
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from openrlhf_math.errors import UserError
from openrlhf_math.runs.records import json_line
from openrlhf_math.training.short_help import NamesOnce
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


def shown_json(row: dict) -> str:
    """JSON in one line for standard output, which can take every text if it is in UTF-8."""
    return json_line(row)[:-1] if (sys.stdout.encoding or "").lower() == "utf-8" else json.dumps(row)


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
            if names:  # argparse's own sentences have all of them
                sentence = sentence.replace("/".join(action.option_strings), names[-1])
            for other in set(action.option_strings) - typed if names else ():
                sentence = re.sub(rf"(?<![\w.-]){re.escape(other)}(?![\w.-]*\w)", names[-1], sentence)
    return sentence


def _refuse(message: str) -> NoReturn:
    raise UserError(message)


ENGINE_FLAG = "--vllm.args"


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
    if flag.startswith("--vllm.") and ENGINE_FLAG in options:
        name = flag.removeprefix("--vllm.")
        return (
            f"unknown flag {flag}{guess or ';'} an argument of vLLM's engine is {ENGINE_FLAG} '{{\"{name}\": VALUE}}'"
        )
    return f"unknown flag {flag}{guess or '; --help lists all flags'}"


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


ENTRY = re.compile(r"( *)(\S+(?: \S+)*)( {2,})(?=\S)")  # a name, two spaces or more, and what it means
COMMAND = re.compile(r"( *)((?:openrlhf-math|torchrun|curl) .*?)( {2,}(\S.*))?$")  # and a remark
SLACK = 5  # characters by which a full line may be shorter than the longest
AS_IT_IS = re.compile(r"\s*(openrlhf-math |torchrun |curl |\{|\[|\"|jq )")  # commands and rows of JSON, to be copied


class WrappedHelp(NamesOnce, argparse.RawDescriptionHelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in wrapped(text, width - len(indent)))


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many characters, but for rows. Paragraphs and entries of a table are refilled, commands are
    continued with a backslash.

    A line continues the one before if it begins in the same column, or where the text of a table's entry begins, and
    if its first word had no room there.
    """
    text = re.sub(r" *\\\n\s*", " ", text)
    lines: list[str] = []
    full = max((len(line) for line in text.splitlines() if not AS_IT_IS.match(line)), default=0) - SLACK
    open_at: int | None = None  # the column in which the next line would continue, None if it cannot
    before = ""
    for line in text.splitlines():
        column = len(line) - len(line.lstrip())
        had_room = len(before) + 1 + len(line.split(maxsplit=1)[0] if line.strip() else "") <= full
        before = line
        entry = ENTRY.match(line)
        if not line.strip() or AS_IT_IS.match(line):
            lines.append(line)
            open_at = None
        elif open_at == column and not entry and not had_room and not line.endswith(":"):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
            open_at = len(entry[0]) if entry else column
    return [short for line in lines for short in _wrap(line, width)]


def _wrap(line: str, width: int) -> list[str]:
    command = COMMAND.match(line)
    if len(line) > width and command:
        return _broken(command[1], command[2], command[4], width)
    if len(line) <= width or AS_IT_IS.match(line):
        return [line]
    entry = ENTRY.match(line)
    column = len(entry[0]) if entry else len(line) - len(line.lstrip())
    head, rest = line[:column], line[column:]
    found = textwrap.wrap(rest, max(width - column, 20), break_long_words=False, break_on_hyphens=False) or [""]
    return [head + found[0], *(" " * column + each for each in found[1:])]


def _broken(indent: str, command: str, remark: str | None, width: int) -> list[str]:
    """A command on several lines that a shell takes for one, and what is said of it below."""
    lines = [indent]
    for number, part in enumerate(re.split(r" (?=--|-H |-d )", command)):
        if number and len(lines[-1]) + 1 + len(part) + len(" \\") > width:
            lines[-1] += " \\"
            lines.append(f"{indent}  {part}")
        else:
            lines[-1] += f" {part}" if number else part
    return [*lines, *([f"{indent}    {remark}"] if remark else [])]


def fit(parser: argparse.ArgumentParser) -> None:
    """Let the parser's help fit: texts wrapped, and a usage of what must be given."""
    if parser.formatter_class is argparse.HelpFormatter:
        parser.formatter_class = WrappedHelp
    if parser.usage is None and not any(isinstance(each, argparse._SubParsersAction) for each in parser._actions):
        words = []
        for action in parser._actions:
            name = action.metavar or action.dest.upper()
            name = name if isinstance(name, str) else " ".join(name)
            if not action.option_strings:
                words.append(f"[{name} ...]" if action.nargs in ("*", "?") else name)
            elif action.required:
                words.append(f"{action.option_strings[0]} {name}")
        usage = " ".join([parser.prog, *words, "[FLAG ...]"])
        parser.usage = textwrap.fill(usage, 70, subsequent_indent=" " * 8, break_on_hyphens=False).replace("%", "%%")
