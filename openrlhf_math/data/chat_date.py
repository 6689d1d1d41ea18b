"""The date in prompts: one for a run, on whatever day it is resumed.

Chat templates of Llama 3.2, gpt-oss, SmolLM3 and others write today's date. Transformers hands them a function for it,
`strftime_now`, which asks the clock at every rendering. Every tokenizer that this package loads gets another one.
"""

import argparse
import json
import os
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_math.arguments import TrainingArguments
from openrlhf_math.errors import UserError

if TYPE_CHECKING:
    from openrlhf_math.data.prompts import Tokenizer

FLAG = "--chat-date"
HELP = "date for chat templates that write today's, such as 2024-07-26 (the day the run began)"
VARIABLE = "OPENRLHF_MATH_CHAT_DATE"  # in the environment, as it must reach every process of a run
FUNCTION = "strftime_now"
KEY = "chat_date"  # in the settings that a run keeps
_undated = ""  # why this process cannot know the date of the run that it resumes, a sentence; "" if it can


def day(text: str) -> str:
    """The type of the flag. Raises ArgumentTypeError for what is no date."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; give one such as 2024-07-26") from None


def add_date_flag(group: argparse._ArgumentGroup, dest: str = KEY) -> None:
    group.add_argument(FLAG, dest=dest, type=day, metavar="DAY", help=HELP)


def settle(given: str | None, kept: str | None = None, run: Path | str = "") -> None:
    """Fix the date for this process and those that it starts: the flag's, else the run's, else today's.

    kept: what the run began with, if this resumes one. run: where it is, for the message.
    Raises UserError if the flag gives another date than the run has.
    """
    global _undated
    _undated = ""
    if given and kept and given != kept:
        raise UserError(f"{FLAG} {given}: the run in {run} began with {kept}; leave it out, or begin another run")
    os.environ[VARIABLE] = given or kept or date.today().isoformat()


def settle_for(given: str | None, run: Path, *files: Path) -> None:
    """`settle` for a run whose settings are in these files, if it began before.

    A version that knew no date left settings without one: `checked_date` then refuses a template that asks for it.
    """
    kept = kept_in(*files)
    settle(given, kept, run)
    if not (given or kept) and any(file.is_file() for file in files):
        times = [file.stat().st_mtime for file in run.iterdir() if file.is_file()]
        undated(f"the run in {run}", f"it began on {date.fromtimestamp(min(times))} by its files")


def undated(what: str, hint: str) -> None:
    """Note that what this process resumes has no date. hint: on which day it began."""
    global _undated
    _undated = (
        f"{what} is of an earlier version, which did not record the date that its chat template writes; "
        f"give {FLAG} DAY, the day it began ({hint})"
    )


def kept_in(*files: Path) -> str | None:
    """The date in the settings of a run, as in config.json; None without one. A damaged file is refused elsewhere."""
    for file in files:
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            found = settings.get(KEY) or settings.get("math", {}).get(KEY)
        except (OSError, ValueError, AttributeError):
            continue
        if found:
            return str(found)
    return None


def of_run(args: TrainingArguments) -> None:
    """`settle` of a training run. args: its settings; with `--ckpt.load_enable` it may resume an earlier one."""
    run_dir = args.math.run_dir
    settle_for(args.math.chat_date, run_dir, *([run_dir / "config.json"] if args.ckpt.load_enable else []))


def chat_date() -> str:
    """The date of this process, ISO 8601: as it was settled, else today's from the first call on."""
    return os.environ.setdefault(VARIABLE, date.today().isoformat())


def strftime(layout: str) -> str:
    """What a template gets in place of the clock. The time of day is midnight."""
    return date.fromisoformat(chat_date()).strftime(layout)


def dated(tokenizer: "Tokenizer") -> "Tokenizer":
    """The tokenizer, whose chat template gets the settled date if it asks for today's."""
    if _asks(tokenizer):
        render = partial(tokenizer.apply_chat_template, **dict[str, Any]({FUNCTION: strftime}))
        tokenizer.apply_chat_template = render  # type: ignore[method-assign]  # every user of this tokenizer renders so
    return tokenizer


def _asks(tokenizer: "Tokenizer") -> bool:
    return FUNCTION in str(tokenizer.chat_template)  # of several templates, in any of them


def checked_date(given: str | None, model: str, *tokenizers: "Tokenizer") -> str | None:
    """The date that one of the chat templates writes, None if they ask for none.

    given: by the flag. model: of the first. Raises UserError for a date by the flag that no template asks for, and if
    the run that is resumed does not say its own.
    """
    found = next((chat_date() for tokenizer in tokenizers if _asks(tokenizer)), None)
    if found and _undated:
        raise UserError(_undated)
    if not given or found:
        return found
    fix = "leave it out"
    if tokenizers and "date_string" in str(tokenizers[0].chat_template):
        variable = json.dumps({"date_string": date.fromisoformat(given).strftime("%d %b %Y")})
        fix = f"it takes the date as a variable: --chat-template-kwargs '{variable}'"
    raise UserError(f"{FLAG} {given}: the chat template of {model} does not ask for today's date; {fix}")


def line(found: str | None) -> str:
    """For a plan, "" where the template writes no date. found: of `checked_date`."""
    return f"chat template: writes the date {found}, also when the run is resumed ({FLAG})" if found else ""
