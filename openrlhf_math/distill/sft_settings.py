"""`openrlhf-math sft`: OpenRLHF's flags with our defaults, checked before torch is imported."""

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

from openrlhf_math.colocation.layout import attention, find_device
from openrlhf_math.data.problems import Problem, read_problems
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.flags import INSTRUCTION
from openrlhf_math.grpo.inputs import NO_TEMPLATE, chat, check_model, claim_run_dir, load_tokenizer
from openrlhf_math.patches.parsers import load_parser, nest, recipe_parser

UPSTREAM_COMMAND = "openrlhf.cli.train_sft"
DEFAULTS = {"data.input_key": "problem", "data.output_key": "response", "data.input_template": None}
COMPUTED = ("ds.attn_implementation", "ckpt.path", "ckpt.output_dir", "logger.tensorboard_dir")


@dataclass(frozen=True)
class SFTSettings:
    """Our part of a fine-tuning's settings, `args.math` beside OpenRLHF's."""

    run_dir: Path
    device: str
    instruction: str


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = recipe_parser(
        UPSTREAM_COMMAND,
        prog,
        "Fine-tune a student on reasoning traces. Every flag of openrlhf.cli.train_sft keeps its name and meaning. "
        "Run it alone for one process, or under torchrun or deepspeed for several.",
        DEFAULTS | dict.fromkeys(COMPUTED),
        ("data.apply_chat_template",),
        (),
    )
    group = parser.add_argument_group("openrlhf_math")
    group.add_argument(
        "--math.run_dir", default="runs/sft", help="what the run leaves: config.json, metrics.jsonl, model"
    )
    group.add_argument("--math.device", choices=("auto", "cpu", "cuda"), default="auto", help="where it runs")
    group.add_argument("--math.instruction", default=INSTRUCTION, help="appended to every problem; empty for none")
    return parser


def resolve(flat: argparse.Namespace) -> SimpleNamespace:
    """The settings as OpenRLHF wants them. Raises UserError for values that cannot work."""
    flags = dict(vars(flat))
    ours = {name: flags.pop(name) for name in list(flags) if name.startswith("math.")}
    device = find_device() if ours["math.device"] == "auto" else ours["math.device"]
    run_dir = Path(ours["math.run_dir"]).absolute()
    computed = (
        attention(device, flags["data.max_len"]),
        run_dir / "checkpoints",
        run_dir / "model",
        run_dir / "tensorboard",
    )
    for name, value in zip(COMPUTED, computed, strict=True):
        flags[name] = str(value) if flags[name] is None else flags[name]
    for name in ("model.model_name_or_path", "data.dataset"):
        if not flags[name]:
            raise UserError(f"--{name} is missing: give a local path or a hub name")
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if flags["train.batch_size"] % (flags["train.micro_batch_size"] * processes):
        raise UserError(
            f"--train.micro_batch_size {flags['train.micro_batch_size']} on {processes} process(es) does not divide "
            f"--train.batch_size {flags['train.batch_size']}; choose a micro batch that does"
        )
    try:
        args = load_parser(UPSTREAM_COMMAND)[1](nest(argparse.Namespace(**flags)))
    except AssertionError as error:
        raise UserError(f"OpenRLHF refuses these flags: {error}") from None
    args.math = SFTSettings(run_dir, device, ours["math.instruction"])
    return args


def prepare(args: SimpleNamespace) -> None:
    """Check the inputs, write them into the run directory and point OpenRLHF's flags at them. Raises UserError."""
    check_model("--model.model_name_or_path", args.model.model_name_or_path)
    if int(os.environ.get("RANK", 0)) == 0:
        claim_run_dir(args.math.run_dir, resume=args.ckpt.load_enable)
    if args.data.multiturn:
        return  # whole conversations are in the input column already
    columns = (args.data.input_key, args.data.output_key, args.data.dataset_split)
    sets = {
        spec.strip(): read_problems(spec.strip(), *columns, flags=("--data.input_key", "--data.output_key"))
        for spec in args.data.dataset.split(",")
    }
    rows = sum(map(len, sets.values()))
    if rows < args.train.batch_size:
        raise UserError(
            f"--data.dataset {args.data.dataset} has {rows} rows, fewer than one batch "
            f"(--train.batch_size {args.train.batch_size}); lower it or add rows"
        )
    args.data.dataset, args.data.dataset_split = _write_traces(args, sets), "train"
    config = {key: vars(value) if isinstance(value, SimpleNamespace) else value for key, value in vars(args).items()}
    (args.math.run_dir / "config.json").write_text(
        json.dumps(config | {"math": asdict(args.math)}, indent=2, default=_plain)
    )


def _plain(value):
    return vars(value) if isinstance(value, SimpleNamespace) else str(value)


def _write_traces(args: SimpleNamespace, sets: dict[str, list[Problem]]) -> str:
    """Write the traces as rendered text. Returns the paths, joined by commas.

    Rendered here, because the chat templates of reasoning models drop what is in think tags from a message of
    the assistant: upstream, which renders prompt and response together, would train on bare answers.
    """
    render = _renderer(args) if args.data.apply_chat_template else None
    folder = args.math.run_dir / "traces"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, traces in enumerate(sets.values()):
        paths.append(folder / f"{number}.jsonl")
        with paths[-1].open("w") as file:
            for trace in traces:
                messages = chat(trace, args.math.instruction)
                prompt, response = render(messages, trace.answer) if render else (messages[-1]["content"], trace.answer)
                row = {args.data.input_key: prompt, args.data.output_key: response}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if render:
        args.data.apply_chat_template, args.data.input_template = False, None
    return ",".join(map(str, paths))


def _renderer(args: SimpleNamespace):
    """A function from messages and a response to the prompt's and the completion's text."""
    tokenizer = load_tokenizer(
        "--model.model_name_or_path", args.model.model_name_or_path, not args.data.tokenizer_chat_template, NO_TEMPLATE
    )
    tokenizer.chat_template = args.data.tokenizer_chat_template or tokenizer.chat_template

    def render(messages: list[dict[str, str]], response: str) -> tuple[str, str]:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if prompt.rstrip().endswith("<think>"):  # the template opens the thinking part itself
            response = response.removeprefix("<think>").lstrip("\n")
        return prompt, response + tokenizer.eos_token

    return render
