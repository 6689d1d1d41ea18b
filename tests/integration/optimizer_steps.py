"""Optimizer steps on the CPU: their memory, and their distance from AdamW's formula. See test_sft.py.

python optimizer_steps.py STAGE
"""

import json
import os
import sys
import threading
import time
from types import SimpleNamespace

import deepspeed
import numpy as np
import psutil
import torch

from openrlhf_math.colocation.strategy import MathStrategy

LR, BETAS, EPS, DECAY = 1e-2, (0.9, 0.95), 1e-8, 0.1
SIZE = 25_000_000
MICRO_BATCHES = 2  # of an optimizer step
# Who knows which micro-batch is the last of a step: the trainer, or DeepSpeed, which counts.
DYNAMIC, MANAGED = "dynamic", "managed"
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
os.environ |= {name: os.environ.get(name, value) for name, value in ALONE.items()}  # torchrun sets them, too
RANK, RANKS = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


class Scale(torch.nn.Module):
    """Its gradient is its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, SIZE))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (self.weight * inputs).sum()


def peak_bytes(work) -> int:
    """The most resident memory while it runs, beyond what was there."""
    process = psutil.Process()
    before, peaks, done = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peaks.append(process.memory_info().rss - before)
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return max(peaks)


class Formula:
    """AdamW, https://arxiv.org/abs/1711.05101, algorithm 2, in float64."""

    def __init__(self, weight: np.ndarray) -> None:
        self.weight, self.mean, self.square, self.steps = weight, 0.0, 0.0, 0

    def step(self, gradient: np.ndarray) -> None:
        self.steps += 1
        self.mean = BETAS[0] * self.mean + (1 - BETAS[0]) * gradient
        self.square = BETAS[1] * self.square + (1 - BETAS[1]) * gradient**2
        mean, square = self.mean / (1 - BETAS[0] ** self.steps), self.square / (1 - BETAS[1] ** self.steps)
        self.weight = self.weight - LR * (mean / (np.sqrt(square) + EPS) + DECAY * self.weight)


def random_gradient(*numbers: int) -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(sum(n * 10**i for i, n in enumerate(numbers))))


def main(stage: int, mode: str, offload: bool) -> None:
    ds = SimpleNamespace(param_dtype="fp32", adam_offload=offload)
    train = SimpleNamespace(dynamic_batch_enable=mode == DYNAMIC)
    args = SimpleNamespace(ds=ds, train=train, math=SimpleNamespace(), local_rank=-1)
    batch = 1 if mode == DYNAMIC else MICRO_BATCHES * RANKS
    strategy = MathStrategy(args=args, zero_stage=stage, max_norm=0.0, micro_train_batch_size=1, train_batch_size=batch)
    strategy.setup_distributed()
    adam = {"type": "AdamW", "params": {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY}}
    model = Scale()
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=strategy.get_ds_train_config(adam)
    )
    some = torch.arange(0, SIZE, 9973)
    formula = Formula(torch.linspace(-1, 1, SIZE)[some].double().numpy())
    peaks, norms = [], []
    for step in range(3):
        total = torch.zeros(SIZE)
        for number in range(MICRO_BATCHES):
            gradients = [random_gradient(step, number, rank) for rank in range(RANKS)]
            total += sum(gradients) / RANKS / (1 if mode == DYNAMIC else MICRO_BATCHES)
            strategy.backward(engine(gradients[RANK]), engine, None)
            if mode == MANAGED or number == MICRO_BATCHES - 1:
                peaks.append(peak_bytes(lambda: strategy.optimizer_step(None, engine, None)) / (4 * SIZE))
        formula.step(total[some].double().numpy())
        norms.append(float(strategy.get_grad_norm(engine)) / float(total.norm()))
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        trained = model.weight.detach()[some].double().numpy()
    error = float(np.abs(trained - formula.weight).max())
    found = {"stage": engine.zero_optimization_stage(), "peak": max(peaks), "error": error, "norms": norms}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], "offload" in sys.argv)
