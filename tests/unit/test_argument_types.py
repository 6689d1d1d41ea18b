"""The types of OpenRLHF's nested arguments are those of its parsers, and name no argument that it lacks."""

import argparse
import types
from collections.abc import Sequence
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from trained_batch import settings

from openrlhf_math.arguments import RLArguments, SFTArguments, with_values
from openrlhf_math.patches.parsers import load_parser
from openrlhf_math.sft import settings as sft_settings


def leaves(section: type, prefix: str = "") -> dict[str, Any]:
    """The annotation of each argument, by its dotted name."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(section).items():
        if isinstance(hint, type) and hint.__module__ == RLArguments.__module__:
            found |= leaves(hint, f"{prefix}{name}.")
        else:
            found[prefix + name] = hint
    return found


def value_fits(value: object, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(value_fits(value, each) for each in get_args(hint))
    if get_origin(hint) in (list, Sequence):
        kinds = list if get_origin(hint) is list else (list, tuple)
        return isinstance(value, kinds) and all(value_fits(each, get_args(hint)[0]) for each in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is (types.NoneType if hint is None else hint)


def at(args: object, name: str) -> object:
    for part in name.split("."):
        args = getattr(args, part)
    return args


def flags(module: str) -> dict[str, argparse.Action]:
    return {action.dest: action for action in load_parser(module)[0]()._actions if action.dest != "help"}


def sft_arguments() -> object:
    parser = sft_settings.build_parser("sft")
    return sft_settings.resolve(parser.parse_args(["--model", "none", "--problems", "none.jsonl", "--output", "run"]))


@pytest.mark.parametrize(
    ("section", "module", "resolved"),
    [
        (RLArguments, "openrlhf.cli.train_ppo_ray", settings),
        (SFTArguments, "openrlhf.cli.train_sft", sft_arguments),
    ],
)
def test_types_are_those_of_the_parser(section, module, resolved):
    types_, actions, args = leaves(section), flags(module), resolved()
    assert set(types_) == set(actions)
    for name, hint in types_.items():
        assert value_fits(at(args, name), hint), f"{name} is {at(args, name)!r}, not {hint}"
        read = bool if actions[name].nargs == 0 else actions[name].type or str
        scalars = {each for one in (get_args(hint) or (hint,)) for each in (get_args(one) or (one,))}
        assert read in scalars or (read is int and float in scalars), f"{name} is read as {read}, not {hint}"


def test_copy_with_other_values_leaves_the_original():
    args = settings()
    changed = with_values(args, {"algo.kl.init_coef": 0.5, "local_rank": 3})
    assert (changed.algo.kl.init_coef, changed.local_rank) == (0.5, 3)
    assert (args.algo.kl.init_coef, args.local_rank) == (0.0, -1)
    assert changed.algo.advantage is args.algo.advantage and changed.algo is not args.algo
