r"""`openrlhf-math prm label` and `prm train`: step labels, and a process reward model that learns them."""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from openrlhf_math.errors import UserError
from openrlhf_math.prm.training_settings import PRMArguments
from openrlhf_math.runs.records import read_objects

if TYPE_CHECKING:
    from openrlhf_math.prm.sources import LabelSettings

Modes: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXAMPLES = r"""examples:
  openrlhf-math prm label --source monte-carlo --model MODEL --output runs/labels runs/eval/completions.jsonl
  openrlhf-math prm label --source prm800k --heldout 0.05 --output runs/labels phase2_train.jsonl
  openrlhf-math prm train --model Qwen/Qwen2.5-Math-7B-Instruct --problems runs/labels/train.parquet \
    --eval.dataset runs/labels/heldout.parquet --output runs/prm

See `openrlhf-math prm label --help` and `openrlhf-math prm train --help`.
"""
LABEL_EPILOG = r"""sources:
  monte-carlo  attempts; --model continues from every step --completions times (Math-Shepherd). The label is the share
               of completions that reach the gold answer; with --hard, 1 if one does. Rerun the command after a kill;
               no completion is sampled twice
  prm800k      files of PRM800K's form, https://github.com/openai/prm800k: steps rated by people
  tiny-world   attempts at the tiny world's problems, checked by a program
  pkg.mod.f    your own, see openrlhf_math.prm.sources

a file of attempts: rows with `problem`, `gold`, and `response` or a list of `responses`, such as completions.jsonl of
`openrlhf-math eval`, the folder `rollouts` of `openrlhf-math grpo`, or the file of `openrlhf-math solve --output`

what --output holds:
  train.parquet    rows {problem, steps, labels (0 to 1, null where a step has none), source}
  heldout.parquet  the same, of the held-out problems
  rejects.jsonl    rows that could not be used, with the reason
  report.json      counts
  journal.jsonl    monte-carlo: every completion

examples:
  openrlhf-math eval --model MODEL --benchmark train.jsonl --samples 8 --temperature 1 --output runs/attempts
  openrlhf-math prm label --source monte-carlo --model MODEL --output runs/labels runs/attempts/completions.jsonl
  openrlhf-math prm label --source prm800k --heldout 0.05 --output runs/labels phase1_train.jsonl phase2_train.jsonl
"""
TRAIN_EPILOG = r"""
forms, by --scorer:
  qwen2.5-math-prm  a Qwen2 with a head of two layers and two labels, wrong and right, read at <extra_0> behind every
                    step (Qwen2.5-Math-PRM, https://arxiv.org/abs/2501.07301); vLLM has it for Qwen2 alone
  trl-prm           a token classifier of two labels over a Llama, Mistral, Qwen3, Gemma 2 or another family that has
                    one, read at --separator behind every step, as TRL's PRMTrainer trains it

vLLM, Transformers and `openrlhf-math solve --scorer KIND --scorer-model DIR/model` load what is saved.

examples:
  openrlhf-math prm train --model Qwen/Qwen2.5-Math-1.5B-Instruct --problems runs/labels/train.parquet \
    --eval.dataset runs/labels/heldout.parquet --output runs/prm
  openrlhf-math prm train --model meta-llama/Llama-3.1-8B --problems runs/labels/train.parquet --separator '\n\n' ...
  torchrun --nproc-per-node 8 -m openrlhf_math prm train ... --ckpt.save_steps 50 --resume
"""[1:]


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Label the steps of solutions, and train a process reward model on them.",
        epilog=EXAMPLES,
    )
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE")
    _add_label(modes)
    _add_train(modes, prog)
    return parser


def _add_label(modes: Modes) -> None:
    from openrlhf_math.data.chat_date import add_date_flag
    from openrlhf_math.data.prompts import INSTRUCTION

    parser = modes.add_parser(
        "label",
        help="step labels from completions, from people, or from a program",
        description="Label the steps of solutions.",
        epilog=LABEL_EPILOG,
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="attempts, or labels in PRM800K's form: JSONL, JSON, CSV, Parquet")
    add("--source", required=True, metavar="NAME", help="where labels come from, see below")
    add("--output", type=Path, required=True, metavar="DIR", help="directory of the run; give the same one to resume")
    add("--separator", default="\\n\\n", metavar="TEXT", help=r"what separates steps (%(default)s)")
    add("--heldout", type=float, default=0.0, metavar="SHARE", help="of the problems, to evaluate on (%(default)s)")
    add("--format", choices=("parquet", "jsonl"), default="parquet", help="of the labels (%(default)s)")
    add("--distinct", action="store_true", help="write solutions of a problem with the same steps once")
    add("--json", action="store_true", help="print the counts as JSON")

    add = parser.add_argument_group("prm800k").add_argument
    add("--neutral", type=float, default=1.0, metavar="LABEL", help="of a step rated 0 (%(default)s)")

    group = parser.add_argument_group("monte-carlo")
    add = group.add_argument
    add("--model", metavar="NAME", help="the model that continues: directory or hub name of a chat model")
    add("--completions", type=int, default=8, metavar="N", help="from every step (%(default)s)")
    add("--hard", action="store_true", help="1 if some completion reaches the gold answer, else 0")
    add("--instruction", default=INSTRUCTION, help="appended to every problem; '' for none ('%(default)s')")
    add("--style", choices=("think", "boxed"), default="boxed", help="where the answer is (%(default)s)")
    add("--temperature", type=float, default=0.7, help="of sampling (%(default)s)")
    add("--top-p", type=float, default=1.0, help="nucleus sampling (%(default)s)")
    add("--max-tokens", type=int, default=2048, metavar="N", help="token limit of one completion (%(default)s)")
    add("--seed", type=int, default=0, help="the seed of every completion is derived from it (%(default)s)")
    add("--concurrency", type=int, default=64, metavar="N", help="completions under way at once (%(default)s)")
    add("--max-context", type=int, metavar="N", help="tokens of prompt and completion (the model's)")
    add("--tensor-parallel", type=int, default=1, metavar="N", help="devices the engine is spread over (%(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the engine runs (%(default)s)")
    add_date_flag(group)


def _add_train(modes: Modes, prog: str) -> None:
    from openrlhf_math.prm.training_settings import NEEDED, build_parser
    from openrlhf_math.training.short_help import shorten_help

    flags = build_parser(f"{prog} train")
    parser = modes.add_parser(
        "train",
        help="a process reward model learns them, through OpenRLHF's SFT trainer and DeepSpeed",
        parents=[flags],
        add_help=False,
        description=flags.description,
        epilog=TRAIN_EPILOG,
        allow_abbrev=False,
    )
    parser.set_defaults(flags=flags)
    shorten_help(parser, NEEDED, "--model MODEL --problems STEPS [--output DIR] ...")
    parser.formatter_class = train_help


def train_help(prog: str) -> argparse.HelpFormatter:
    """Defaults as in the other commands that train, examples as they are written."""
    from openrlhf_math.cli.parsing import WrappedHelp
    from openrlhf_math.patches.parsers import FlagHelp

    class TrainHelp(FlagHelp, WrappedHelp):
        pass

    return TrainHelp(prog)


def run(args: argparse.Namespace) -> None:
    {"label": _label, "train": _train}[args.mode](args)


def _label(args: argparse.Namespace) -> None:
    from openrlhf_math.prm.labelling import label
    from openrlhf_math.prm.sources import find_source

    source = find_source(args.source)
    try:
        settings = read_settings(args)
    except ValueError as error:
        raise UserError(str(error)) from None
    with _progress() as listen:
        report = label(settings, source, listen)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _show(report, args.output)


def _train(flat: argparse.Namespace) -> None:
    from openrlhf_math.colocation.layout import enter_environment, training_threads
    from openrlhf_math.data import chat_date
    from openrlhf_math.modeling.model_folder import check_model
    from openrlhf_math.modeling.model_kind import checked_family
    from openrlhf_math.prm.training_inputs import check_base, check_base_weights, prepare
    from openrlhf_math.prm.training_settings import resolve
    from openrlhf_math.sft.inputs import MODEL_FLAG
    from openrlhf_math.sft.settings import is_first

    flags = {name: value for name, value in vars(flat).items() if name not in ("mode", "flags")}
    args = resolve(argparse.Namespace(**flags), flat.flags)
    chat_date.of_run(args)
    if flat.dry_run:
        from openrlhf_math.prm.training import print_plan

        model, form = args.model.model_name_or_path, None
        check_model(MODEL_FLAG, model)
        if Path(model).is_dir():
            form = check_base(model, args.math.scorer, args.math.separator)
            enter_environment(args.math.device, args.math.parameters)  # before torch is imported
            check_base_weights(model, form, may_be_missing=True)
        print_plan(args, form, checked_family(MODEL_FLAG, model, ring=1))
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's
    enter_environment(args.math.device, args.math.parameters, training_threads(args.math.parameters, processes))
    prepare(args)

    from openrlhf_math.prm.training import train

    train(args)
    if is_first():
        _show_training(args)


def _show_training(args: PRMArguments) -> None:
    evaluations = args.math.run_dir / "eval.jsonl"
    if evaluations.exists():
        last = read_objects(evaluations)[-1]
        auc = "-" if last["auc"] is None else f"{last['auc']:.3f}"
        print(
            f"held-out steps, step {last['step']}: accuracy {last['accuracy']:.1%}, AUC {auc} "
            f"({last['steps']:,} steps, {last['right']:.1%} of them right)"
        )
    print(f"done: {args.math.run_dir} (model in {args.ckpt.output_dir}, the loss in prm.png)")
    print(f"to score with it: --scorer {args.math.scorer} --scorer-model {args.ckpt.output_dir}")


def read_settings(args: argparse.Namespace) -> "LabelSettings":
    """Raises ValueError or UserError for values that cannot work."""
    from openrlhf_math.cli.model_flags import check_temperature
    from openrlhf_math.colocation.layout import find_device
    from openrlhf_math.data.chat_date import checked_date, settle_for
    from openrlhf_math.modeling.model_folder import check_chat_model, load_tokenizer
    from openrlhf_math.prm.sources import LabelSettings, RolloutSettings

    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file; give the name of a directory")
    for file in args.files:
        if Path(file).suffix and not Path(file).exists():
            raise UserError(f"{file}: there is no such file")
    settle_for(args.chat_date, args.output, args.output / "config.json")
    rollouts = None
    if args.source == "monte-carlo":
        if not args.model:
            raise UserError("--model is missing: give the model that continues from every step")
        device = find_device() if args.device == "auto" else args.device
        check_temperature(args.temperature)
        check_chat_model("--model", args.model, device, args.max_context)
        tokenizer = load_tokenizer("--model", args.model, True, "choose a chat model")
        rollouts = RolloutSettings(
            model=args.model,
            device=device,
            completions=args.completions,
            hard=args.hard,
            instruction=args.instruction,
            style=args.style,
            temperature=args.temperature,
            top_p=args.top_p,
            max_tokens=args.max_tokens,
            max_context=args.max_context,
            concurrency=args.concurrency,
            tensor_parallel=args.tensor_parallel,
            seed=args.seed,
            chat_date=checked_date(args.chat_date, args.model, tokenizer),
        )
    return LabelSettings(
        source=args.source,
        files=tuple(args.files),
        output=args.output,
        separator=args.separator.replace("\\n", "\n"),
        neutral=args.neutral,
        heldout=args.heldout,
        format=args.format,
        distinct=args.distinct,
        rollouts=rollouts,
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for sources that take their time. Yields a function (done, total)."""
    from openrlhf_math.runs.progress import terminal_bar

    with terminal_bar() as bar:
        shown: list = []

        def listen(done: int, total: int) -> None:
            if not shown:
                shown.append(bar.add_task("completions", total=total))
            bar.update(shown[0], completed=done)

        yield listen


def _show(report: dict, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table("", "count", title=f"Step labels from {report['source']}")
    table.columns[1].justify = "right"
    for name, count in report["counts"].items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    if report["reasons"]:
        why = Table("set aside because", "rows")
        for reason, count in report["reasons"].most_common(10):
            why.add_row(Text(reason), str(count))
        console.print(why)
    console.print(f"  {output}", soft_wrap=True, highlight=False)
