"""How many optimizer steps a fine-tuning makes, which rows fill none, and schedules that cannot be or train nothing."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from openrlhf.utils.distributed_sampler import DistributedSampler
from torch.utils.data import DataLoader
from transformers import get_scheduler

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world import write_tiny_world
from openrlhf_math.training.schedule import FROM_ZERO, SCHEDULERS, steps_of, trains_nothing


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "world"
    write_tiny_world(folder, raw=100, train=10, heldout=10)
    return folder / "model"


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(("rows", "batch", "micro", "epochs"), [
    (12, 12, 1, 1), (13, 12, 2, 1), (23, 12, 2, 2), (35, 12, 4, 3), (25, 6, 2, 5), (17, 6, 1, 2),
])  # fmt: skip
def test_steps_are_those_of_openrlhfs_loop(rows, batch, micro, epochs, ranks):
    """Its sampler and data loader with rows that are counted, and its windows, which go on from pass to pass."""
    steps, used, window = 0, 0, 0
    for epoch in range(epochs):
        samplers = [DistributedSampler(range(rows), ranks, rank, seed=1, drop_last=True) for rank in range(ranks)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        loaders = [DataLoader(range(rows), micro, sampler=sampler, drop_last=True) for sampler in samplers]
        for parts in zip(*loaders, strict=True):
            window += sum(map(len, parts))
            if window == batch:
                steps, used, window = steps + 1, used + batch, 0
    if batch % (micro * ranks):
        pytest.skip("the flags are refused")
    train = SimpleNamespace(batch_size=batch, micro_batch_size=micro, max_epochs=epochs)
    found = steps_of(rows, ranks, train)
    assert (found.count, found.unused) == (steps, rows * epochs - used)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [2, 40])
@pytest.mark.parametrize("share", [0.0, 0.03, 1.0])
def test_schedules_can_be_created_and_begin_where_they_are_said_to(name, steps, share):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    more = {"min_lr_rate": 0.1} if name.endswith("min_lr") else {}
    get_scheduler(name, optimizer, math.ceil(steps * share), steps, scheduler_specific_kwargs=more)
    if share:
        assert (optimizer.param_groups[0]["lr"] == 0) == (name in FROM_ZERO)


@pytest.mark.parametrize(
    ("steps", "name", "share", "fits"),
    [(1, "cosine_with_min_lr", 0.03, False), (1, "linear", 1.0, False), (1, "cosine_with_min_lr", 0.0, True),
     (1, "constant", 0.03, True), (1, "cosine_warmup_with_min_lr", 0.03, True), (2, "cosine_with_min_lr", 0.03, True)],
)  # fmt: skip
def test_only_step_with_the_learning_rate_0_is_found(steps, name, share, fits):
    assert ("--actor.lr_warmup_ratio" in trains_nothing(steps, name, share, "actor.")) != fits


def written(path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sft(model, tmp_path, rows: int, *words) -> int:
    data = written(tmp_path / "rows.jsonl", [{"problem": "1+1?", "response": r"\boxed{2}"}] * rows)
    return main([
        "sft", "--model", str(model), "--problems", data, "--data.max_len", "128", "--train.batch_size", "8",
        "--train.micro_batch_size", "4", "--math.run_dir", str(tmp_path / "run"), *map(str, words),
    ])  # fmt: skip


def prm(model, tmp_path, rows: int, *words) -> int:
    row = {"problem": "Leo has 9 pens.", "steps": ["Leo has 9 pens.", "9-3=6."], "labels": [1, 0]}
    return main([
        "prm", "train", "--model", str(model), "--problems", written(tmp_path / "rows.jsonl", [row] * rows),
        "--data.max_len", "128", "--train.batch_size", "8", "--train.micro_batch_size", "4", "--math.run_dir",
        str(tmp_path / "run"), *map(str, words),
    ])  # fmt: skip


@pytest.mark.parametrize(("rows", "epochs", "count", "unused"), [(16, 2, 4, 0), (15, 2, 3, 6), (17, 1, 2, 1)])
def test_rows_that_fill_no_step_are_reported(model, tmp_path, capsys, rows, epochs, count, unused):
    assert sft(model, tmp_path, rows, "--train.max_epochs", epochs, "--dry-run") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("steps: "))
    assert line.startswith(f"steps: {count} of 8 rows")
    assert (f"; {unused} of the {rows * epochs} rows" in line) == bool(unused)


@pytest.mark.parametrize("command", [sft, prm])
def test_run_that_would_train_nothing_is_refused(model, tmp_path, capsys, command):
    assert command(model, tmp_path, 9, "--train.max_epochs", 1) == 2
    assert "--lr_warmup_ratio 0.03" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("name", ["nonsense", "reduce_lr_on_plateau", "warmup_stable_decay", "greedy", ""])
@pytest.mark.parametrize("command", [sft, prm])
def test_unknown_schedule_is_refused(model, tmp_path, capsys, command, name):
    assert command(model, tmp_path, 20, "--lr_scheduler", name, "--dry-run") == 2
    assert "--lr_scheduler" in capsys.readouterr().err


def test_weights_of_sets_of_steps_are_refused(model, tmp_path, capsys):
    assert prm(model, tmp_path, 20, "--data.dataset_probs", "1", "--dry-run") == 2
    assert "--data.dataset_probs" in capsys.readouterr().err


@pytest.mark.parametrize(("episodes", "noted"), [(1, True), (2, False)])
def test_grpo_of_one_step_with_a_warm_up_is_noted(model, tmp_path, capsys, episodes, noted):
    data = written(tmp_path / "rows.jsonl", [{"problem": f"{n}+1?", "answer": str(n + 1)} for n in range(8)])
    code = main([
        "grpo", "--model", str(model), "--problems", data, "--output", str(tmp_path / "run"),
        "--rollout.batch_size", "8", "--train.num_episodes", str(episodes), "--data.max_len", "160",
        "--rollout.max_new_tokens", "48", "--dry-run",
    ])  # fmt: skip
    assert code == 0
    assert ("--actor.lr_warmup_ratio" in " ".join(capsys.readouterr().out.split())) == noted


def test_grpo_refuses_an_unknown_schedule(model, tmp_path, capsys):
    data = written(tmp_path / "rows.jsonl", [{"problem": f"{n}+1?", "answer": str(n + 1)} for n in range(40)])
    command = ["grpo", "--model", str(model), "--problems", data, "--output", str(tmp_path / "run"), "--dry-run"]
    assert main([*command, "--actor.lr_scheduler", "nonsense"]) == 2
    assert "--actor.lr_scheduler nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("command", [sft, prm])
@pytest.mark.parametrize("name", ["me@host", "a,b"])
def test_directory_whose_rows_openrlhf_would_not_find_is_refused(model, tmp_path, capsys, command, name):
    (tmp_path / name).mkdir()
    assert command(model, tmp_path / name, 20) == 2
    assert "--math.run_dir" in capsys.readouterr().err
    assert not (tmp_path / name / "run").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_grpo_refuses_such_a_directory(model, tmp_path, capsys, more):
    data = written(tmp_path / "rows.jsonl", [{"problem": f"{n}+1?", "answer": str(n + 1)} for n in range(40)])
    run_dir = tmp_path / "me@host"
    sizes = ("--data.max_len", "160", "--rollout.max_new_tokens", "48", "--rollout.batch_size", "8")
    assert main(["grpo", "--model", str(model), "--problems", data, "--output", str(run_dir), *sizes, *more]) == 2
    assert str(run_dir) in capsys.readouterr().err and not run_dir.exists()
