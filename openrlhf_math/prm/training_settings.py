"""`openrlhf-math prm train`: the flags of OpenRLHF's SFT trainer that a process reward model has a use for."""

import argparse
from dataclasses import dataclass
from typing import Any, Protocol

from openrlhf_math.errors import UserError
from openrlhf_math.patches.parsers import recipe_parser
from openrlhf_math.prm.forms import QWEN, SCORERS, TRL
from openrlhf_math.sft import settings as sft_settings
from openrlhf_math.sft.settings import SFTRunArguments, SFTSettings, explain
from openrlhf_math.training.short_help import PRM, give_short_names

DEFAULTS = {"data.input_template": None}
# Of prompts and completions, of other kinds of models and of layouts that a token head has not been made for.
WITHOUT_MEANING = (
    "data.multiturn", "data.apply_chat_template", "data.input_template", "data.tokenizer_chat_template",
    "data.input_key", "data.output_key", "data.dataset_probs", "data.disable_fast_tokenizer",
    "model.pretrain_mode_enable", "model.aux_loss_coef", "ds.packing_samples", "ds.use_liger_kernel",
    "ds.ring_attn_size", "ds.ring_attn_head_stride", "ds.tensor_parallel_size", "ds.load_in_4bit", "ds.lora.rank",
    "ds.lora.alpha", "ds.lora.dropout", "ds.lora.target_modules",
)  # fmt: skip
# What comes first in the help.
NEEDED = (
    "model.model_name_or_path", "data.dataset", "math.run_dir", "math.scorer", "math.separator", "math.device",
    "data.max_len", "train.batch_size", "adam.lr", "train.max_epochs", "eval.dataset", "ckpt.load_enable", "dry_run",
)  # fmt: skip
HELP = {
    "model.model_name_or_path": "the model to begin from: directory or hub name, with or without a PRM's head",
    "data.dataset": "labelled steps: a file, a directory or a hub name; several joined by commas",
    "eval.dataset": "steps on which loss, accuracy and AUC are measured too, see eval.jsonl",
    "eval.steps": "optimizer steps between these measurements; -1 for once an epoch",
    "data.max_len": "most tokens of a problem with its solution; longer rows are left out and listed",
    "adam.lr": "learning rate",
    "train.batch_size": "solutions of an optimizer step, over all processes",
    "train.max_epochs": "passes over the solutions",
    "train.micro_batch_size": "solutions that a process takes at once, as one row without padding",
    "train.seed": "seed of the order of rows and of the new head",
    "ckpt.save_steps": "steps between checkpoints; -1 for none",
    "ds.attn_implementation": "no effect: rows without padding use an attention of this package",
}


@dataclass(frozen=True)
class PRMSettings(SFTSettings):
    """Our part of a training's settings.

    scorer: kind of scorer that the model becomes, one of `forms.SCORERS`. separator: what its steps end with. None: as
    the model's own, see `forms.find_form`.
    """

    scorer: str | None = None
    separator: str | None = None


class PRMArguments(SFTRunArguments, Protocol):
    """OpenRLHF's sections and our settings."""

    math: PRMSettings


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = recipe_parser(
        sft_settings.UPSTREAM_COMMAND,
        prog,
        "Train a process reward model on labelled steps. Every flag of openrlhf.cli.train_sft that is listed keeps its "
        "name and meaning. Run it alone for one process, or under torchrun or deepspeed for several. After a kill, the "
        "same command with --resume resumes.",
        DEFAULTS | dict.fromkeys(sft_settings.COMPUTED),
        (),
        (),
    )
    explain(parser, sft_settings.OF_A_RUN | HELP | dict.fromkeys(WITHOUT_MEANING, argparse.SUPPRESS))
    group = parser.add_argument_group("run")
    group.add_argument(
        "--math.run_dir", default="runs/prm", help="directory of the run: config.json, metrics.jsonl, prm.png, model"
    )
    group.add_argument(
        "--math.scorer",
        choices=SCORERS,
        help=f"kind of scorer that the model becomes (default: {QWEN} for a Qwen2, {TRL} for all others)",
    )
    group.add_argument(
        "--math.separator",
        metavar="TEXT",
        help=rf"what ends every step of a {TRL}; solve and the others read it in the model's config.json (default: \n)",
    )
    group.add_argument("--math.device", choices=("auto", "cpu", "cuda"), default="auto", help="where it runs")
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved configuration and the memory needed, without starting anything",
    )
    give_short_names(parser, PRM)
    return parser


def resolve(flat: argparse.Namespace, parser: argparse.ArgumentParser) -> PRMArguments:
    """The settings as OpenRLHF wants them. parser: of `build_parser`. Raises UserError for values that cannot work."""
    for name in WITHOUT_MEANING:
        if getattr(flat, name) != parser.get_default(name):
            raise UserError(f"--{name} has no meaning for a process reward model; leave it out")
    of_sft = sft_settings.build_parser("sft")._actions  # with flags that this one has not, which have no effect here
    plain = {action.dest: action.default for action in of_sft if action.dest.startswith("math.")}
    args: Any = sft_settings.resolve(argparse.Namespace(**plain | vars(flat)))
    separator = getattr(flat, "math.separator")
    if separator == "":
        raise UserError("--math.separator is empty: give what ends every step")
    args.math = PRMSettings(
        **vars(args.math),
        scorer=getattr(flat, "math.scorer"),
        separator=separator and separator.replace("\\n", "\n"),
    )
    return args
