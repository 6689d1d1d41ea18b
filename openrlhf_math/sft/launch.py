"""Fine-tuning through OpenRLHF's SFT trainer."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from openrlhf_math.colocation.compose import substituted
from openrlhf_math.colocation.layout import cores, free_port
from openrlhf_math.runs.progress import printed_to
from openrlhf_math.sft.inputs import is_plain_text
from openrlhf_math.sft.progress import plot_loss, progress_of
from openrlhf_math.sft.settings import is_first


def train(args: SimpleNamespace) -> None:
    """Fine-tune; the model is saved in `args.ckpt.output_dir`, the loss is drawn in loss.png."""
    be_a_launcher()

    from openrlhf.datasets import SFTDataset

    from openrlhf_math.sft.trainer import RecordingTrainer, TraceActor, TraceDataset

    dataset = partial(SFTDataset, num_processors=cores()) if is_plain_text(args) else TraceDataset
    run_upstreams_command(args, "SFT", RecordingTrainer, Actor=TraceActor, SFTDataset=dataset)
    if is_first():
        plot_loss(args.math.run_dir, f"SFT loss of {Path(args.model.model_name_or_path).name}")


def run_upstreams_command(args: SimpleNamespace, kind: str, trainer: Callable, **ours: object) -> None:
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
