"""OpenRLHF's SFT trainer, model and dataset: rows without padding, records that survive a kill."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float32, Int64
from openrlhf.datasets import SFTDataset
from openrlhf.trainer.sft_trainer import SFTTrainer
from openrlhf.utils.distributed_sampler import DistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.modeling.packed_actor import PADDED, PackedActor
from openrlhf_math.runs.records import append_jsonl, forget_after, keep_until
from openrlhf_math.sft.launch import Progress, Silent
from openrlhf_math.sft.settings import SFTRunArguments

if TYPE_CHECKING:
    from tqdm import tqdm

LEARNED = 2  # in an attention mask, which is 1 at other tokens


class TraceActor(PackedActor):
    """A padded batch goes through the model as one row of its real tokens, and no logits are kept.

    This is GRPO's packed row. The output head, a quarter of a small model's work, sees only what is learned.
    """

    def forward(  # type: ignore[override]  # the arguments of OpenRLHF's SFT trainer, which knows no action mask
        self,
        sequences: Int64[Tensor, "batch tokens"],
        attention_mask: Int64[Tensor, "batch tokens"],
        return_output: bool = False,
        **kwargs: Any,
    ) -> Tensor | tuple[Tensor, Any]:
        """Log-probabilities of tokens 1, 2, ..., float32 [batch, tokens - 1]; meaningless at untrained tokens.

        attention_mask: LEARNED at tokens that are learned, 1 at others, 0 in padding. Of plain text, which OpenRLHF's
        dataset reads, all tokens are learned, and the mask has only 0 and 1.
        """
        real = attention_mask.clamp(max=1)
        if self.path == PADDED:
            return super().forward(sequences, attention_mask=real, return_output=return_output, **kwargs)
        learned = attention_mask[:, 1:] == attention_mask.max()
        return super().forward(sequences, learned, real, return_output=return_output)


class Rows(Protocol):
    """A dataset with `ids` and `learned`, as `sft.render.Trace`; none longer than the context."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


class Strategy(Protocol):
    """OpenRLHF's, of which the settings are read."""

    args: SFTRunArguments


class TraceDataset(SFTDataset):
    """The rows that `sft_inputs` has written, as they are.

    Upstream tokenises text, prompt and completion as one and counts the prompt's tokens apart: where the last
    characters of the prompt and the first of the completion make one token, the mask is off by one. It also writes the
    end of sequence over the last token of a row that is too long; those are left out before. Of upstream's class the
    batches are left: rows are padded on the right.
    """

    def __init__(self, rows: Rows, tokenizer: Tokenizer, max_length: int, strategy: Strategy, **unused: object) -> None:
        """The tokenizer, which is saved with the model, gets the chat template that the rows were rendered with."""
        torch.utils.data.Dataset.__init__(self)
        self.rows, self.tokenizer = rows, tokenizer
        if template := strategy.args.data.tokenizer_chat_template:
            tokenizer.chat_template = template

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(
        self, index: int
    ) -> tuple[Int64[Tensor, "1 tokens"], Int64[Tensor, "1 tokens"], Float32[Tensor, "1 tokens"]]:
        """input_ids, attention_mask, loss_mask; the last is 1 at i where token i + 1 is to be learned.

        OpenRLHF's trainer hands the model no loss mask, so the attention mask is LEARNED at token i + 1.
        """
        row = self.rows[index]
        input_ids = torch.tensor([row["ids"]])
        attention_mask, loss_mask = torch.ones_like(input_ids), torch.zeros_like(input_ids, dtype=torch.float32)
        for start, stop in row["learned"]:
            attention_mask[0, start:stop] = LEARNED
            loss_mask[0, start - 1 : stop - 1] = 1
        return input_ids, attention_mask, loss_mask


def part_of(loader: DataLoader) -> DistributedSampler:
    """What draws this process's part of a set."""
    assert isinstance(loader.sampler, DistributedSampler)  # from OpenRLHF's `setup_dataloader`
    return loader.sampler


def counted_once(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The batches of this process's part of an evaluation set, with an empty loss mask at rows that are repeated.

    OpenRLHF's sampler repeats rows until all processes have as many. They go through the model, which is called equally
    often in each, but count where they are first.
    """
    sampler = part_of(loader)
    left = len(range(sampler.rank, len(sampler.dataset), sampler.num_replicas))
    for inputs, attention_mask, loss_mask in loader:
        counted = torch.arange(len(loss_mask)) < left
        left -= len(loss_mask)
        yield inputs, attention_mask, loss_mask * counted.view(-1, *(1,) * (loss_mask.dim() - 1))


class RecordingTrainer(SFTTrainer):
    """A record a step. run_dir: where they go. report: shows each record."""

    def __init__(self, *args: Any, run_dir: Path, report: Progress | Silent, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.balance_routers(self.aux_loss)
        if self.strategy.ring_attn_group is None and (note := self.model.choose_path()):
            report.say(note)
        self.metrics, self.evaluations = run_dir / "metrics.jsonl", run_dir / "eval.jsonl"
        self.report = report
        # OpenRLHF's samplers shrink as they are resumed, so these are asked for before.
        self.micro_batches = len(self.train_dataloader)
        self.steps = self.micro_batches * self.epochs // self.strategy.accumulated_gradient

    def fit(
        self, args: SFTRunArguments, consumed_samples: int = 0, num_update_steps_per_epoch: int | None = None
    ) -> None:
        step = self.model.model.global_steps
        self.started_at = time.time()
        if self.strategy.is_rank_0():
            records = keep_until(self.metrics, step)
            keep_until(self.evaluations, step)
            if records:
                self.started_at -= records[-1]["seconds"]
            if step and self._tensorboard:
                forget_after(self._tensorboard, step)
        self.learning_rate = self.scheduler.get_last_lr()[0]  # of the next step
        super().fit(args, consumed_samples, num_update_steps_per_epoch)

    def save_logs_and_checkpoints(
        self,
        args: SFTRunArguments,
        global_step: int,
        step_bar: "tqdm",
        logs_dict: dict[str, float],
        client_states: dict | None = None,
    ) -> None:
        """OpenRLHF's loss is that of this process's part of the batch, and its learning rate that of the next step; the
        record has those of the whole batch and of this step."""
        logs_dict["loss_mean"] = self.strategy.all_reduce(logs_dict["loss_mean"])
        logs_dict["lr"], self.learning_rate = self.learning_rate, self.scheduler.get_last_lr()[0]
        done = global_step * self.strategy.accumulated_gradient / self.micro_batches
        record = {
            "step": global_step,
            "epoch": round(done, 4),
            "loss": logs_dict["loss_mean"],
            "grad_norm": logs_dict["grad_norm"],
            "learning_rate": logs_dict["lr"],
            "seconds": round(time.time() - self.started_at, 3),
        }
        if self.strategy.is_rank_0():
            append_jsonl(self.metrics, record)
        super().save_logs_and_checkpoints(args, global_step, step_bar, logs_dict, client_states)
        self.report(record, self.steps)

    def evaluate(self, eval_dataloader: DataLoader, steps: int = 0) -> None:
        """The loss on the evaluation set, a mean over its completion tokens."""
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64)  # minus the log-probabilities, and the tokens
        device = next(self.model.parameters()).device
        with torch.no_grad():
            for batch in counted_once(eval_dataloader):
                inputs, attention_mask, loss_mask = (part.to(device).squeeze(1) for part in batch)
                log_probs = self.model(
                    inputs,
                    attention_mask=attention_mask,
                    return_logprobs=True,
                    ring_attn_group=self.strategy.ring_attn_group,
                )
                mask = loss_mask[:, :-1]
                total += torch.stack([-(log_probs * mask).sum(), mask.sum()]).double().cpu()
        self.model.train()
        total = self.strategy.all_reduce(total, "sum")
        total /= self.strategy.world_size / part_of(eval_dataloader).num_replicas  # processes that share their rows
        nll, tokens = total.tolist()
        if self.strategy.is_rank_0():
            self.record_evaluation({"step": steps, "loss": nll / tokens, "tokens": int(tokens)}, ("loss",))

    def record_evaluation(self, record: dict, shown: tuple[str, ...]) -> None:
        """To eval.jsonl. shown: what goes to TensorBoard, or to Weights & Biases, too."""
        append_jsonl(self.evaluations, record)
        figures = {f"eval/{name}": record[name] for name in shown}
        if self._wandb:
            self._wandb.log(figures | {"eval/global_step": record["step"]})
        elif self._tensorboard:
            for name, value in figures.items():
                self._tensorboard.add_scalar(name, value, record["step"])
