"""Gathers sharded parameters again and again and prints how often one was wrong. torchrun runs it; see test_sft.py."""

from types import SimpleNamespace

import deepspeed
import torch

from openrlhf_math.colocation.strategy import MathStrategy

args = SimpleNamespace(
    ds=SimpleNamespace(param_dtype="fp32"), train=SimpleNamespace(), math=SimpleNamespace(), local_rank=-1
)
MathStrategy(args=args, train_batch_size=2).setup_distributed()
sizes = [200_000] + [64] * 200  # the first is under way while the last have long come
parameters = [torch.nn.Parameter(torch.full((size,), float(n))) for n, size in enumerate(sizes)]
config = {"train_batch_size": 2, "zero_optimization": {"stage": 3}}
deepspeed.zero.Init(module=torch.nn.ParameterList(parameters), config_dict_or_path=config)
wrong = 0
for _ in range(40):
    parameters[0].all_gather(parameters)
    wrong += sum(bool((parameter != n).any()) for n, parameter in enumerate(parameters))
    parameters[0].partition(parameters)
print(f"{wrong} wrong", flush=True)
