"""Training a process reward model through OpenRLHF's SFT command, with our classes in place of its own."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

from openrlhf_math.prm.training_plot import plot_training
from openrlhf_math.sft.launch import be_a_launcher, run_upstreams_command
from openrlhf_math.sft.progress import progress_of
from openrlhf_math.sft.settings import is_first


def train(args: SimpleNamespace) -> None:
    """Train; the model is saved in `args.ckpt.output_dir`, the loss is drawn in prm.png."""
    be_a_launcher()

    from openrlhf.cli import train_sft

    from openrlhf_math.prm.actor import StepJudge
    from openrlhf_math.prm.dataset import StepDataset
    from openrlhf_math.prm.model import add_step_tag
    from openrlhf_math.prm.trainer import StepTrainer

    upstreams = train_sft.get_tokenizer

    def get_tokenizer(pretrain: str, model, *rest, **options):
        tokenizer = upstreams(pretrain, model, *rest, **options)
        add_step_tag(tokenizer, model)
        return tokenizer

    run_dir = args.math.run_dir
    with progress_of("PRM", run_dir) as progress:
        run_upstreams_command(
            args,
            run_dir / "prm.log",
            Actor=StepJudge,
            SFTTrainer=partial(StepTrainer, run_dir=run_dir, report=progress),
            SFTDataset=StepDataset,
            get_tokenizer=get_tokenizer,
        )
    if is_first():
        plot_training(run_dir, f"Process reward model from {Path(args.model.model_name_or_path).name}")
