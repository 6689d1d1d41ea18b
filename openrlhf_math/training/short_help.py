"""Short help: the required flags of a command, then its own flags by topic. `--help-all` has all of OpenRLHF's too.

The flags that other commands have as well get the short names that they have there, as --model.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_math.patches.parsers import FlagHelp

UPSTREAM = "OpenRLHF: "  # in front of the titles of its flags' groups
# What the other commands call the same setting: short name to the name that OpenRLHF's flags have, or would have.
OF_A_RUN = {
    "output": "math.run_dir",
    "device": "math.device",
    "seed": "train.seed",
    "resume": "ckpt.load_enable",
    "max-problems": "data.max_samples",
    "max-context": "data.max_len",
}
GRPO = OF_A_RUN | {
    "model": "actor.model_name_or_path",
    "problems": "data.prompt_dataset",
    "problem-key": "data.input_key",
    "answer-key": "data.label_key",
    "difficulty-key": "math.difficulty_key",
    "instruction": "math.instruction",
    "style": "math.answer_style",
    "attempts": "rollout.n_samples_per_prompt",
    "max-tokens": "rollout.max_new_tokens",
    "temperature": "rollout.temperature",
    "top-p": "rollout.top_p",
    "format-reward": "math.format_reward",
    "correct-reward": "math.correct_reward",
    "tool": "math.tool",
    "tool-form": "math.tool_form",
    "tool-calls": "math.tool_calls",
    "tool-seconds": "math.tool_seconds",
    "tool-memory": "math.tool_memory",
    "tool-isolation": "math.tool_isolation",
}
OF_ROWS = OF_A_RUN | {"model": "model.model_name_or_path", "problems": "data.dataset"}
PRM = OF_ROWS | {"scorer": "math.scorer", "separator": "math.separator"}
SFT = OF_ROWS | {
    "problem-key": "data.input_key",
    "response-key": "data.output_key",
    "instruction": "math.instruction",
    "thinking-tags": "math.thinking_tags",
}
# What `--help` says of checkpoints in every training.
CHECKPOINTS = {
    "ckpt.load_enable": "resume from the newest complete checkpoint of this run, or start if there is none",
    "ckpt.output_dir": "where the model is saved (default: model in the run directory)",
    "ckpt.max_mem": "GiB that checkpoints may take",
    "ckpt.save_hf": "save the model with each checkpoint",
    "ckpt.disable_ds": "with --ckpt.save_hf: save only the model, from which a run cannot be resumed",
}


class NamesOnce(argparse.HelpFormatter):
    """All names of a flag and then, once, what follows it, as argparse has it from Python 3.13 on."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class ShortHelp(NamesOnce, FlagHelp):
    pass


def give_short_names(parser: argparse.ArgumentParser, names: Mapping[str, str]) -> None:
    """Let `--SHORT` be read as, and shown before, the flag it is short for. names: SHORT to the flag's setting."""
    flags = {option: action for action in parser._actions for option in action.option_strings}
    for short, name in names.items():
        action = flags[f"--{name}"]
        action.option_strings = [f"--{short}", *action.option_strings]
        parser._option_string_actions[f"--{short}"] = action


class HelpAll(argparse.Action):
    """Prints the help of every flag and ends the process, as `--help` does with the short one."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(argparse.ArgumentParser.format_help(parser), end="")
        parser.exit()


def shorten_help(parser: argparse.ArgumentParser, needed: Sequence[str], example: str) -> None:
    """Sort the flags of an extended parser of OpenRLHF's into groups, and let `--help` leave most of OpenRLHF's out.

    needed: names of the flags that come first, in this order. example: what follows the program's name in the usage.
    """
    parser.usage = f"%(prog)s {example}"
    parser.formatter_class = ShortHelp
    parser.add_argument("--help-all", action=HelpAll, help="show every flag, OpenRLHF's too")
    first = parser.add_argument_group("what you need")
    common = parser._optionals  # where argparse puts flags without a group: OpenRLHF's, and --help
    by_name = {action.dest: action for action in reversed(parser._actions)}
    for name in needed:
        _move(parser, by_name[name], first)
    sections: dict[str, argparse._ArgumentGroup] = {}
    for action in list(common._group_actions):
        if not isinstance(action, argparse._HelpAction | HelpAll):
            section = action.dest.partition(".")[0] if "." in action.dest else "other"
            if section not in sections:
                sections[section] = parser.add_argument_group(UPSTREAM + section)
            _move(parser, action, sections[section])
    parser._action_groups.remove(first)
    parser._action_groups.insert(0, first)
    for action in parser._actions:
        if action.metavar is None and not action.choices and action.nargs != 0:
            action.metavar = action.dest.rpartition(".")[2].upper()
    vars(parser)["format_help"] = lambda: _short(parser)  # in place of the class's


def _short(parser: argparse.ArgumentParser) -> str:
    groups = parser._action_groups
    parser._action_groups = [group for group in groups if not (group.title or "").startswith(UPSTREAM)]
    try:
        return argparse.ArgumentParser.format_help(parser)
    finally:
        parser._action_groups = groups


def _move(parser: argparse.ArgumentParser, action: argparse.Action, to: argparse._ArgumentGroup) -> None:
    for group in parser._action_groups:
        if action in group._group_actions:
            group._group_actions.remove(action)
    to._group_actions.append(action)
