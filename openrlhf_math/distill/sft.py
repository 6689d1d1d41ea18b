"""Fine-tuning through OpenRLHF's SFT trainer."""

import contextlib
import os
import socket
import sys
from functools import partial
from types import SimpleNamespace

from openrlhf_math.colocation.compose import substituted
from openrlhf_math.colocation.layout import cores
from openrlhf_math.grpo.display import step_bar


def train(args: SimpleNamespace) -> None:
    """Fine-tune; the model is saved in `args.ckpt.output_dir`."""
    _be_a_launcher()

    import openrlhf.utils.deepspeed
    from openrlhf.cli import train_sft

    from openrlhf_math.colocation.strategy import MathStrategy
    from openrlhf_math.distill.sft_trainer import recording_trainer

    log = args.math.run_dir / "sft.log"
    with (
        _progress() as progress,
        substituted(openrlhf.utils.deepspeed, DeepspeedStrategy=MathStrategy),
        substituted(
            train_sft,
            SFTTrainer=recording_trainer(args.math.run_dir / "metrics.jsonl", progress),
            SFTDataset=partial(train_sft.SFTDataset, num_processors=cores()),
        ),
        log.open("a") as file,
        contextlib.redirect_stdout(file),  # upstream prints the model, the data and its own bars
        contextlib.redirect_stderr(file),
    ):
        train_sft.train(args)


@contextlib.contextmanager
def _progress():
    """A function (record, total steps) that shows a step."""
    if int(os.environ["RANK"]) != 0:
        yield lambda record, total: None
        return
    with step_bar(sys.stdout) as progress:  # the terminal, before stdout is redirected
        task = progress.add_task("SFT: loading", total=None)
        yield lambda record, total: progress.update(
            task, description=f"SFT: loss {record['loss']:.3f}", total=total, completed=record["step"]
        )


def _be_a_launcher() -> None:
    """Without torchrun or deepspeed around us: one process, a free port."""
    if "RANK" in os.environ:
        return
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(alone)
