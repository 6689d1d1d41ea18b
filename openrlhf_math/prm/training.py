"""Training a process reward model through OpenRLHF's SFT command with our classes; its plan and its plot."""

import json
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_math.data import chat_date
from openrlhf_math.data.chat_template import prepared
from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.modeling.families import Family
from openrlhf_math.prm.forms import Form, find_form
from openrlhf_math.prm.training_settings import PRMArguments
from openrlhf_math.sft.inputs import settings_of
from openrlhf_math.sft.launch import (
    be_a_launcher,
    checkpoint_line,
    draw_losses,
    loss_figure,
    losses_of,
    model_state_bytes,
    path_line,
    run_upstreams_command,
    states_line,
)
from openrlhf_math.sft.settings import is_first, processes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def print_plan(args: PRMArguments, form: Form | None, family: Family | None) -> None:
    """Print what a run would do; start nothing. form, family: of the model, None if not looked up."""
    print(json.dumps(settings_of(args), indent=2))
    ranks = processes()
    micro_batches = args.train.batch_size // (args.train.micro_batch_size * ranks)
    print(f"processes: {ranks} ({args.math.device}), ZeRO-{args.ds.zero_stage}")
    print(
        f"a step: {args.train.batch_size} solutions of at most {args.data.max_len} tokens, {micro_batches} micro "
        f"batch(es) of {args.train.micro_batch_size} a process; loss at the ends of steps"
    )
    print(f"scorer: {_served(form) if form else 'that of the model, which is not on this machine'}")
    print(path_line(args, family))
    if args.math.parameters:
        states = model_state_bytes(args.math.parameters, ranks, args.ds.zero_stage, args.ds.adam_offload)
        print(f"{states_line(states, args.ds.adam_offload)}; activations come on top")
    print(checkpoint_line(args.ckpt.save_steps))


def _served(form: Form) -> str:
    if form.separator is None:
        return f"{form.scorer}, read at a tag behind every step"
    return f"{form.scorer}, read at {form.separator!r} behind every step"


def plot_training(run_dir: Path, title: str) -> None:
    """Draw metrics.jsonl (and eval.jsonl, if there is one) into prm.png."""
    records, evaluations = losses_of(run_dir / "metrics.jsonl"), losses_of(run_dir / "eval.jsonl")
    if not records:
        return
    columns = 2 if evaluations else 1
    with loss_figure(run_dir / "prm.png", columns, (6 * columns, 4.2)) as (loss, *others):
        loss.figure.suptitle(title)
        draw_losses(loss, records, evaluations, "held-out")
        loss.set(xlabel="step (one gradient update)", ylabel="cross entropy (nats a solution step)", ylim=(0, None))
        if evaluations:
            at = [each["step"] for each in evaluations]
            for name, colour in (("accuracy", "tab:green"), ("auc", "tab:red")):
                others[0].plot(at, [each[name] for each in evaluations], "o-", color=colour, label=name)
            others[0].axhline(evaluations[-1]["right"], color="grey", linestyle=":", label="share of right steps")
            others[0].set(xlabel="step (one gradient update)", ylabel="of held-out solution steps", ylim=(None, 1))


def train(args: PRMArguments) -> None:
    """Train; the model is saved in `args.ckpt.output_dir`, the loss is drawn in prm.png."""
    be_a_launcher()

    from openrlhf.cli import train_sft

    from openrlhf_math.prm.trainer import StepDataset, StepJudge, StepTrainer

    upstreams = train_sft.get_tokenizer
    base = (args.model.model_name_or_path, args.math.scorer, args.math.separator)
    # Found once, when all processes are together and the first has checked the model.
    form = cache(partial(find_form, *base))

    def judge(*given: Any, **options: Any) -> StepJudge:
        return StepJudge(*given, form=form(), longest=args.data.max_len, **options)

    def dataset(*given: Any, **options: Any) -> StepDataset:
        return StepDataset(*given, form=form(), **options)

    def get_tokenizer(pretrain: str, model: "PreTrainedModel | None", *rest: Any, **options: Any) -> Tokenizer:
        tokenizer = upstreams(pretrain, model, *rest, **options)
        form().prepare(tokenizer, model)
        chat_date.settle(None, chat_date.kept_in(args.math.run_dir / "config.json"))  # of the first process
        return prepared(tokenizer)

    ours = {"Actor": judge, "SFTDataset": dataset, "get_tokenizer": get_tokenizer}
    run_upstreams_command(args, "PRM", StepTrainer, **ours)
    if is_first():
        plot_training(args.math.run_dir, f"Process reward model from {Path(args.model.model_name_or_path).name}")
