"""What a training records: each evaluated row once, over several processes, and the learning rate of each step."""

import json
from types import SimpleNamespace

import pytest
import torch
from openrlhf.trainer.sft_trainer import SFTTrainer
from openrlhf.utils.distributed_sampler import DistributedSampler
from torch import distributed
from torch.utils.data import DataLoader
from transformers import get_scheduler

from openrlhf_math.prm.measures import step_measures
from openrlhf_math.prm.trainer import NO_LABEL, StepTrainer
from openrlhf_math.sft.trainer import RecordingTrainer

LENGTHS = (2, 7, 3, 5, 4)  # learned tokens of each evaluation row


class Model(torch.nn.Linear):
    """The log-probability of a token is minus its number, the log-probability of a right step the same."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, inputs, **_options):
        return -inputs[:, 1:].float()

    def judge(self, inputs, _labels):
        right = -inputs[:, :-1].float()
        return torch.stack([torch.log1p(-right.exp()), right], dim=-1)


def rows(count: int) -> list[tuple[torch.Tensor, ...]]:
    found = []
    for number in range(count):
        ids = torch.arange(9)[None] + 10 * number + 1.0
        mask = (torch.arange(9) < LENGTHS[number]).float()[None]
        found.append((ids, torch.where(mask > 0, number % 2, NO_LABEL), mask))
    return found


class Evaluations:
    """The processes of an evaluation, one after the other: what each would add up with the others."""

    def __init__(self, kind, processes, copies, micro_batch, count, tmp_path, monkeypatch) -> None:
        self.sums, self.lists = [], []
        monkeypatch.setattr(distributed, "get_world_size", lambda group=None: processes * copies)
        monkeypatch.setattr(distributed, "all_gather_object", self._gather)
        for last in (False, True):  # the first time to find what each process has
            for number in range(processes * copies):
                trainer = object.__new__(kind)
                trainer.model, trainer._tensorboard, trainer._wandb = Model(), None, None
                trainer.evaluations = tmp_path / "eval.jsonl"
                trainer.strategy = SimpleNamespace(
                    all_reduce=self._all_reduce, is_rank_0=lambda: last and number == 0, ring_attn_group=None,
                    world_size=processes * copies,
                )  # fmt: skip
                self.last = last
                sampler = DistributedSampler(rows(count), processes, number // copies, shuffle=False)
                trainer.evaluate(DataLoader(rows(count), micro_batch, sampler=sampler), 3)
        self.record = json.loads((tmp_path / "eval.jsonl").read_text())

    def _all_reduce(self, value, _op):
        self.sums += [] if self.last else [value]
        return sum(self.sums)

    def _gather(self, everyones, found):
        self.lists += [] if self.last else [found]
        everyones[: len(self.lists)] = self.lists


@pytest.mark.parametrize(
    ("processes", "copies", "micro_batch", "count"),
    [(1, 1, 2, 5), (2, 1, 1, 5), (2, 1, 2, 5), (3, 1, 4, 5), (4, 1, 1, 5), (4, 1, 1, 2), (2, 1, 2, 4), (2, 2, 2, 5)],
)
def test_every_evaluation_row_counts_once(processes, copies, micro_batch, count, tmp_path, monkeypatch):
    """OpenRLHF's sampler repeats rows until all processes have as many. copies: processes that share a row."""
    tokens = [10 * number + place + 2.0 for number in range(count) for place in range(LENGTHS[number])]
    found = Evaluations(RecordingTrainer, processes, copies, micro_batch, count, tmp_path, monkeypatch).record
    assert found == {"step": 3, "loss": pytest.approx(sum(tokens) / len(tokens)), "tokens": len(tokens)}


@pytest.mark.parametrize(("processes", "micro_batch", "count"), [(1, 2, 5), (2, 1, 5), (2, 2, 5), (4, 1, 5), (4, 1, 2)])
def test_every_evaluated_solution_counts_once(processes, micro_batch, count, tmp_path, monkeypatch):
    steps = [(number, 10 * number + place + 1.0) for number in range(count) for place in range(LENGTHS[number])]
    probabilities = torch.exp(-torch.tensor([value for _, value in steps])).tolist()
    expected = step_measures(probabilities, [number % 2 for number, _ in steps])
    found = Evaluations(StepTrainer, processes, 1, micro_batch, count, tmp_path, monkeypatch).record
    assert found["steps"] == len(steps) and found["right"] == pytest.approx(expected.right)
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-4)


def scheduler_of(steps: int):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = get_scheduler("cosine_with_min_lr", optimizer, 2, steps, scheduler_specific_kwargs={"min_lr_rate": 0.1})
    return optimizer, made


def test_a_step_has_the_learning_rate_that_it_was_taken_with(tmp_path, monkeypatch):
    optimizer, scheduler = scheduler_of(6)
    used, bar = [], []
    monkeypatch.setattr(
        SFTTrainer, "save_logs_and_checkpoints", lambda self, _args, _step, _bar, logs, _state: bar.append(logs["lr"])
    )

    def fit(self, *_args) -> None:
        for step in range(1, 7):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
            logs = {"loss_mean": 1.0, "grad_norm": 1.0, "lr": scheduler.get_last_lr()[0]}
            self.save_logs_and_checkpoints(None, step, None, logs, {})

    monkeypatch.setattr(SFTTrainer, "fit", fit)
    trainer = object.__new__(RecordingTrainer)
    trainer.metrics, trainer.evaluations = tmp_path / "metrics.jsonl", tmp_path / "eval.jsonl"
    trainer.model, trainer.scheduler = SimpleNamespace(model=SimpleNamespace(global_steps=0)), scheduler
    trainer._tensorboard, trainer.micro_batches, trainer.steps, trainer.report = None, 6, 6, lambda *_: None
    trainer.strategy = SimpleNamespace(is_rank_0=lambda: True, all_reduce=lambda value: value, accumulated_gradient=1)
    trainer.fit(None)
    records = [json.loads(line)["learning_rate"] for line in trainer.metrics.read_text().splitlines()]
    assert used[0] == 0 and records == bar == used
