"""`openrlhf-math sft`: OpenRLHF's flags with our defaults, checked before torch is imported."""

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from openrlhf_math.arguments import SFTArguments
from openrlhf_math.colocation.layout import attention, find_device
from openrlhf_math.data.prompts import INSTRUCTION, check_template
from openrlhf_math.data.trace import find_tags
from openrlhf_math.errors import UserError
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.model_folder import count_parameters
from openrlhf_math.patches.parsers import load_parser, nest, recipe_parser
from openrlhf_math.training import short_help
from openrlhf_math.training.flag_checks import (
    add_template_flags,
    check_kernels,
    check_parallel,
    check_template_used,
    check_values,
    hide_wandb_key,
)
from openrlhf_math.training.lora import LORA, Lora
from openrlhf_math.training.lora import check_flags as check_lora_flags

THINKING = ("keep", "last", "drop")
CODE_OUTPUT = ("mask", "learn")
UPSTREAM_COMMAND = "openrlhf.cli.train_sft"
DEFAULTS = {"data.input_template": None}
COMPUTED = ("data.input_key", "ds.attn_implementation", "ckpt.path", "ckpt.output_dir", "logger.tensorboard_dir")


@dataclass(frozen=True)
class SFTSettings:
    """Our part of a fine-tuning's settings: `args.math`, in addition to OpenRLHF's.

    thinking: of which turns it is learned, one of THINKING. thinking_tags: its tags in rows. code_output: one of
    CODE_OUTPUT. max_bad_rows: most that are set aside, as a share of a set. parameters: of the model, 0 if unknown.
    lora: what is trained, None for all weights; found after the flags, in the model's configuration.
    template_variables: of the chat template. chat_date: that the template writes, None if it writes none.
    """

    run_dir: Path
    device: str
    instruction: str
    thinking: str
    thinking_tags: str
    code_output: str
    max_bad_rows: float
    parameters: int
    lora: Lora | None = None
    template_variables: dict[str, object] = field(default_factory=dict)
    chat_date: str | None = None


class SFTRunArguments(SFTArguments, Protocol):
    """OpenRLHF's sections and our settings."""

    math: SFTSettings


# Of flags that the training of a process reward model has, too.
OF_A_RUN = short_help.CHECKPOINTS | {
    "ckpt.path": "directory of the checkpoints (default: checkpoints in the run directory)",
    "ckpt.max_num": "checkpoints to keep; the oldest is deleted once the next is complete",
    "logger.logging_steps": "steps between TensorBoard's points",
    "logger.tensorboard_dir": "directory of TensorBoard's records (default: tensorboard in the run directory)",
}
# What comes first in the help.
NEEDED = (
    "model.model_name_or_path", "data.dataset", "data.input_key", "data.output_key", "math.run_dir", "math.device",
    "data.max_len", "train.batch_size", "adam.lr", "train.max_epochs", "eval.dataset", "ckpt.load_enable", "dry_run",
)  # fmt: skip


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = recipe_parser(
        UPSTREAM_COMMAND,
        prog,
        "Fine-tune a student on reasoning traces. Every flag of openrlhf.cli.train_sft keeps its name and meaning. "
        "Run it alone for one process, or under torchrun or deepspeed for several. After a kill, the same command with "
        "--resume resumes.",
        DEFAULTS | dict.fromkeys(COMPUTED),
        ("data.apply_chat_template",),
        (),
    )
    explain(
        parser,
        OF_A_RUN
        | {
            "ckpt.save_steps": "steps between checkpoints; -1 for none, 1 to lose at most one step",
            "eval.dataset": "traces on which the loss is measured too, see eval.jsonl",
            "eval.steps": "steps between these measurements; -1 for once an epoch",
            "data.dataset": "[KNOWN=]SET[:WEIGHT][@COLUMNS], several separated by commas. SET: a file, a directory or "
            "a hub name. KNOWN: the known set whose layout it has, as deepmath-103k. WEIGHT: share of the "
            "draws, for all sets or none, as --data.dataset_probs. COLUMNS: a column of conversations, or "
            "PROMPT+RESPONSE; of a hub's set, behind its configuration: NAME@CONFIG@COLUMNS",
            "data.dataset_probs": "the weights of all sets, separated by commas; without any, sets are joined",
            "data.input_key": "column of the prompt, text or chat messages, or of whole conversations (default: "
            "problem, or the only one of question, prompt, input, messages, conversations)",
            "data.output_key": "column of the response, text or chat messages (default: response, or the only one of "
            "completion, output, generated_solution, trace)",
            "data.multiturn": "learn the assistant's turns within a prompt as well; all of a whole conversation's are "
            "learned with or without it",
            "model.model_name_or_path": "the student: a directory or a hub name",
            "adam.lr": "learning rate",
            "train.batch_size": "rows of an optimizer step, over all processes",
            "data.max_len": "most tokens of a row, prompt and response; longer rows are left out and listed",
            "data.input_template": "without a chat template: the prompt, with {} for the problem; the rest is literal",
            "model.aux_loss_coef": "weight of the auxiliary loss that balances a mixture of experts; refused for "
            "models that have none in Transformers",
            "train.max_epochs": "passes over the traces",
            "train.seed": "seed of the order of rows",
            "ds.packing_samples": "for --ds.ring_attn_size, which needs it; other rows never have padding",
            "ds.ring_attn_size": "number of processes that share a sequence; needs flash-attn and ring-flash-attn",
            "ds.attn_implementation": "for ring attention only; rows without padding use an attention of this package",
            **LORA,
        },
    )
    group = parser.add_argument_group("run and traces")
    group.add_argument(
        "--math.run_dir", default="runs/sft", help="directory of the run: config.json, metrics.jsonl, loss.png, model"
    )
    group.add_argument("--math.device", choices=("auto", "cpu", "cuda"), default="auto", help="where it runs")
    group.add_argument(
        "--math.instruction",
        default=INSTRUCTION,
        help="appended to the last message of every prompt, as grpo and eval do; empty for none",
    )
    group.add_argument(
        "--math.thinking",
        choices=THINKING,
        default="keep",
        help="the thinking that is learned: of every turn, of a conversation's last, or none",
    )
    add_template_flags(group)
    group.add_argument(
        "--math.thinking_tags",
        default="think",
        help="how the rows write thinking: think, mistral, thinking, thought or OPEN...CLOSE; it becomes <think>",
    )
    group.add_argument(
        "--math.code_output",
        choices=CODE_OUTPUT,
        default="mask",
        help="blocks of the output of code, ```output behind ```python: left out of the loss, or learned as other text",
    )
    group.add_argument(
        "--math.max_bad_rows",
        type=float,
        default=0.05,
        help="most rows of a set, as a share, that may be set aside as they cannot be learned from",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved configuration, what the first rows become and the memory needed, without starting "
        "anything",
    )
    short_help.give_short_names(parser, short_help.SFT)
    short_help.shorten_help(parser, NEEDED, "--model MODEL --problems TRACES [--output DIR] ...")
    return parser


def explain(parser: argparse.ArgumentParser, texts: dict[str, str]) -> None:
    """Give flags of OpenRLHF's a help text. texts: by name, without dashes."""
    actions = {action.dest: action for action in parser._actions if not action.dest.startswith("no-")}
    for name, text in texts.items():
        actions[name].help = text


def resolve(flat: argparse.Namespace) -> SFTRunArguments:
    """The settings as OpenRLHF wants them. Raises UserError for values that cannot work."""
    flags = dict(vars(flat))
    ours = {name: flags.pop(name) for name in list(flags) if name.startswith("math.")}
    flags.pop("dry_run")
    check_values(flags | {name: ours[name] for name in ("math.max_bad_rows",) if name in ours})
    check_template_used(flags, ours)
    find_tags(ours["math.thinking_tags"], "--math.thinking_tags")
    check_template("--data.input_template", flags["data.input_template"], flags["data.apply_chat_template"])
    hide_wandb_key(flags)
    device = find_device() if ours["math.device"] == "auto" else ours["math.device"]
    run_dir = Path(ours["math.run_dir"]).absolute()
    _compute(flags, device, run_dir)
    _check(flags, device)
    check_lora_flags(flags)
    try:
        args = load_parser(UPSTREAM_COMMAND)[1](nest(argparse.Namespace(**flags)))
    except AssertionError as error:
        raise UserError(f"OpenRLHF refuses these flags: {error}") from None
    parameters = count_parameters(args.model.model_name_or_path)
    args.math = SFTSettings(
        run_dir,
        device,
        ours["math.instruction"],
        ours["math.thinking"],
        ours["math.thinking_tags"],
        ours["math.code_output"],
        ours["math.max_bad_rows"],
        parameters,
        template_variables=ours["math.chat_template_kwargs"],
        chat_date=ours["math.chat_date"],
    )
    return args


def _compute(flags: dict, device: str, run_dir: Path) -> None:
    """Fill in the flags whose default depends on others."""
    values = (
        "text" if flags["model.pretrain_mode_enable"] else None,
        attention(device, flags["data.max_len"]),
        str(run_dir / "checkpoints"),
        str(run_dir / "model"),
        str(run_dir / "tensorboard"),
    )
    for name, value in zip(COMPUTED, values, strict=True):
        flags[name] = value if flags[name] is None else flags[name]
    if flags["ds.ring_attn_size"] == 1:  # rows without padding, with their own attention: nothing is left to pack
        flags["ds.attn_implementation"], flags["ds.packing_samples"] = SHARED_PREFIX, False


def _check(flags: dict, device: str) -> None:
    for short, name in (("model", "model.model_name_or_path"), ("problems", "data.dataset")):
        if not flags[name]:
            raise UserError(f"--{short} is missing: give a local path or a hub name")
    if flags["model.pretrain_mode_enable"]:
        for name in ("data.output_key", "data.multiturn", "data.input_template"):
            if flags[name]:
                raise UserError(f"--{name} has no meaning with --model.pretrain_mode_enable, plain text; leave it out")
    if flags["ds.ring_attn_size"] > 1 and device == "cpu":
        raise UserError("--ds.ring_attn_size needs flash-attn, which has no CPU build; leave it out")
    check_kernels(flags, device, padded=flags["ds.ring_attn_size"] > 1)
    check_parallel(flags, processes())
    ranks = data_parallel_ranks(flags["ds.ring_attn_size"], flags["ds.tensor_parallel_size"])
    if flags["train.batch_size"] % (flags["train.micro_batch_size"] * ranks):
        raise UserError(
            f"--train.micro_batch_size {flags['train.micro_batch_size']} on {ranks} process(es) does not divide "
            f"--train.batch_size {flags['train.batch_size']}; choose a micro batch that does"
        )


def processes() -> int:
    """Training processes, as torchrun or deepspeed started them."""
    return int(os.environ.get("WORLD_SIZE", 1))


def data_parallel_ranks(ring: int, tensor_parallel: int) -> int:
    """Processes with their own rows; those of a ring or of a tensor-parallel group share theirs."""
    return max(1, processes() // (ring * tensor_parallel))


def is_first() -> bool:
    """Whether this process is the one that writes and shows."""
    return int(os.environ.get("RANK", 0)) == 0
