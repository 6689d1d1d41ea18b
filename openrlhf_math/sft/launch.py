"""Fine-tuning through OpenRLHF's SFT trainer: its plan for `--dry-run`, its run, its progress and its loss curve."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.colocation.layout import cores, free_port
from openrlhf_math.data import chat_date
from openrlhf_math.modeling.families import Family
from openrlhf_math.patches.patch import substituted
from openrlhf_math.runs.process import resume_command, working
from openrlhf_math.runs.progress import printed_to, step_bar
from openrlhf_math.runs.records import read_records
from openrlhf_math.sft.inputs import is_plain_text, settings_of
from openrlhf_math.sft.settings import SFTRunArguments, data_parallel_ranks, is_first, processes
from openrlhf_math.training.lora import lora_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.progress import Progress as Bar


class Progress:
    """Shows a training: called with each step's record and the number of steps in all."""

    def __init__(self, title: str, bar: "Bar", beat: Callable[[dict, int], None]) -> None:
        self._title, self._bar, self._beat = title, bar, beat
        self._task = bar.add_task(f"{title}: loading", total=None)

    def __call__(self, record: dict, total: int) -> None:
        description = f"{self._title}: loss {record['loss']:.3f}"
        self._bar.update(self._task, description=description, total=total, completed=record["step"])
        self._beat(record, total)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, soft_wrap=True)


class Silent:
    """Of the processes that show nothing."""

    def __call__(self, record: dict, total: int) -> None: ...

    def say(self, line: str) -> None: ...


@contextlib.contextmanager
def progress_of(title: str, run_dir: Path) -> Iterator[Progress | Silent]:
    """Shows the steps while this process runs in the run's directory."""
    if not is_first():
        yield Silent()
        return
    at_work = working("--math.run_dir", run_dir, resume_command())
    with at_work as beat, step_bar(sys.stdout) as bar:  # the terminal, before stdout is redirected
        yield Progress(title, bar, beat)


SMOOTH_OVER = 0.04  # share of all steps that a point of the smoothed line is the mean of


def plot_loss(run_dir: Path, title: str) -> None:
    """Draw metrics.jsonl (and eval.jsonl, if there is one) into loss.png."""
    records = losses_of(run_dir / "metrics.jsonl")
    if not records:
        return
    with loss_figure(run_dir / "loss.png", 1, (8, 4.5)) as (axes,):
        draw_losses(axes, records, losses_of(run_dir / "eval.jsonl"), "evaluation set")
        axes.set(title=title, xlabel="step (one gradient update)", ylabel="loss (nats a completion token)")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)


@contextlib.contextmanager
def loss_figure(path: Path, panels: int, size: tuple[float, float]) -> "Iterator[list[Axes]]":
    """Panels side by side to draw on; with a grid and legends they are a PNG when the block is done. size: inches."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
    yield axes[0]
    for one in axes[0]:
        one.grid(alpha=0.3)
        one.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_losses(axes: "Axes", records: list[dict], evaluations: list[dict], evaluated: str) -> None:
    """The loss of each step, smoothed over SMOOTH_OVER of them, and that of evaluations, labelled `evaluated`."""
    steps, losses = [each["step"] for each in records], [each["loss"] for each in records]
    window = max(1, round(SMOOTH_OVER * len(records)))
    axes.plot(steps, losses, color="tab:blue", alpha=0.35 if window > 1 else 1, linewidth=1, label="each step")
    if window > 1:
        axes.plot(steps, trailing_mean(losses, window), color="tab:blue", label=f"mean of {window} steps")
    if evaluations:
        points = [each["step"] for each in evaluations], [each["loss"] for each in evaluations]
        axes.plot(*points, "o-", color="tab:orange", label=evaluated)


def trailing_mean(values: list[float], window: int) -> list[float]:
    """The mean of each value and up to `window` - 1 before it."""
    return [
        sum(values[max(0, end - window) : end]) / min(end, window) for end in range(1, len(values) + 1)
    ]  # fmt: skip


def losses_of(path: Path) -> list[dict]:
    """The records with a loss: NaN is written as null."""
    return [record for record in read_records(path).rows if record["loss"] is not None]


GIB = 2**30


def model_state_bytes(
    parameters: int, ranks: int, zero_stage: int, offload: bool, adapters: int | None = None
) -> float:
    """Bytes of model states on each device. adapters: their parameters, if they alone are trained.

    Mixed precision keeps bf16 weights and gradients (2 bytes each a parameter), fp32 weights and two Adam moments (12).
    ZeRO shards the last from stage 1 on, gradients from stage 2, weights from stage 3; offloaded, the 12 are in CPU
    memory. ZeRO, https://arxiv.org/abs/1910.02054, section 3.
    """
    trained = parameters if adapters is None else adapters
    weights, gradients, adam = 2.0 * (parameters + (adapters or 0)), 2.0 * trained, 12.0 * trained
    if zero_stage >= 1:
        adam /= ranks
    if zero_stage >= 2:
        gradients /= ranks
    if zero_stage >= 3:
        weights /= ranks
    return weights + gradients + (0 if offload else adam)


def print_plan(args: SFTRunArguments, family: Family | None = None) -> None:
    """Print what a run would do; start nothing. family: of the model, None if not looked up."""
    print(json.dumps(settings_of(args), indent=2))
    ranks = data_parallel_ranks(args.ds.ring_attn_size, args.ds.tensor_parallel_size)
    micro_batches = args.train.batch_size // (args.train.micro_batch_size * ranks)
    print(f"processes: {processes()} ({args.math.device}), {ranks} with their own rows, ZeRO-{args.ds.zero_stage}")
    print(
        f"a step: {args.train.batch_size} rows of at most {args.data.max_len} tokens, {micro_batches} micro batch(es) "
        f"of {args.train.micro_batch_size} a process; loss on the completions"
    )
    print(path_line(args, family))
    if args.math.chat_date:
        print(chat_date.line(args.math.chat_date))
    size = args.math.parameters
    if size:
        adapters = args.math.lora.parameters if args.math.lora else None
        states = model_state_bytes(size, ranks, args.ds.zero_stage, args.ds.adam_offload, adapters)
        print(f"{states_line(states, args.ds.adam_offload)}; activations and logits come on top")
    if args.math.lora:
        print(lora_line(args.math.lora, size, args.ckpt.output_dir))
    print(checkpoint_line(args.ckpt.save_steps))


def states_line(states: float, offload: bool) -> str:
    """states: bytes of `model_state_bytes`."""
    return f"model states: {states / GIB:.1f} GiB on each device" + (", Adam's in CPU memory" if offload else "")


def checkpoint_line(steps: int) -> str:
    return f"checkpoints: {f'every {steps} steps' if steps > 0 else 'none, a kill loses the run (--ckpt.save_steps)'}"


def path_line(args: SFTRunArguments, family: Family | None) -> str:
    """How batches go through the model."""
    if args.ds.ring_attn_size > 1:
        return (
            f"training: rows of a micro batch packed into one, which {args.ds.ring_attn_size} processes share by ring "
            "attention; all logits are kept"
        )
    if family is None or family.shares_prompts:
        return "training: rows of a micro batch packed into one without padding, without logits kept"
    return f"training: a row for each sequence, without logits kept: {family.why_rows()}"


def train(args: SFTRunArguments) -> None:
    """Fine-tune; the model is saved in `args.ckpt.output_dir`, the loss is drawn in loss.png."""
    be_a_launcher()

    from openrlhf.datasets import SFTDataset

    from openrlhf_math.sft.trainer import RecordingTrainer, TraceActor, TraceDataset

    dataset = partial(SFTDataset, num_processors=cores()) if is_plain_text(args) else TraceDataset
    run_upstreams_command(args, "SFT", RecordingTrainer, Actor=TraceActor, SFTDataset=dataset)
    if is_first():
        plot_loss(args.math.run_dir, f"SFT loss of {Path(args.model.model_name_or_path).name}")


def run_upstreams_command(args: SFTRunArguments, kind: str, trainer: Callable, **ours: object) -> None:
    """OpenRLHF's SFT command with our pieces in place of OpenRLHF's, by their names there.

    kind: SFT or PRM; what the command prints is in the file of that name, as sft.log. trainer: in place of its
    `SFTTrainer`, with the run's directory as `run_dir` and the progress as `report`. Of several processes the first
    writes the file: the others may be here before it has made the directory.
    """
    import openrlhf.utils.deepspeed
    from openrlhf.cli import train_sft

    from openrlhf_math.colocation.strategy import MathStrategy

    run_dir = args.math.run_dir
    log = run_dir / f"{kind.lower()}.log"
    with (
        progress_of(kind, run_dir) as progress,
        substituted(openrlhf.utils.deepspeed, DeepspeedStrategy=MathStrategy),
        substituted(train_sft, SFTTrainer=partial(trainer, run_dir=run_dir, report=progress), **ours),
        printed_to(log if is_first() else Path(os.devnull)),  # upstream prints the model, the data and progress bars
    ):
        train_sft.train(args)


def be_a_launcher() -> None:
    """Without torchrun or deepspeed around us: one process, a free port."""
    if "RANK" in os.environ:
        return
    alone = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    os.environ.update(alone)
