"""The product's trainer in OpenRLHF's loop, over a policy and engines that only count: no Ray, no vLLM, no DeepSpeed.

Every thing that happens is an event, at any of which a run can be killed; what it has on its disk is all that is left.
"""

import io
import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer.ppo_utils import samples_generator
from openrlhf.utils.deepspeed import DeepspeedStrategy
from rollout_without_engines import response
from transformers import set_seed

from openrlhf_math.grpo import trainer
from openrlhf_math.grpo.faults import engine_recovery
from openrlhf_math.grpo.faults.stopping import Checkpointing
from openrlhf_math.grpo.problems.problem_order import ProblemOrder
from openrlhf_math.grpo.rollout.samples_generator import MathSamplesGenerator
from openrlhf_math.runs.records import keep_until, read_objects

RECORDS = ("metrics.jsonl", "problems.jsonl", "eval.jsonl", "ungraded.jsonl")
MEASURED = ("timing/", "timeline/", "seconds_since_start")


class Killed(Exception):
    """As by `kill -9`."""


def chance(*parts: object) -> float:
    """A number from 0 to 1 that follows from what it is given."""
    return zlib.crc32(repr(parts).encode()) / 2**32


class World:
    """What a life of a run sees and does. kill_at: the number of the event that ends it."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.events: list[tuple] = []
        self.kill_at = kill_at
        self.weights = 0  # of the engines
        self.waiting: list[int] = []  # questions without an answer

    def event(self, *what: object) -> None:
        if len(self.events) == self.kill_at:
            raise Killed
        self.events.append(what)

    def ask(self, prompt: str, step: int, size: int, limit: int | None) -> "Answer":
        self.event("asked", prompt, self.weights, limit)
        self.waiting.append(id(prompt))
        draws = [chance(prompt, self.weights, step, number) for number in range(size)]
        group = [response(prompt, float(draw < 0.4), truncated=draw > 0.6, weights=self.weights) for draw in draws]
        group[0]["span"] = (float(len(self.events)), float(len(self.events)) + 1)
        return Answer(self, id(prompt), group)

    def transfer(self, version: int) -> None:
        assert not self.waiting, "weights change while an engine writes"
        self.event("weights", version)
        self.weights = version


class Answer:
    def __init__(self, world: World, number: int, group: list[dict]) -> None:
        self.world, self.number, self.group = world, number, group

    def take(self) -> list[dict]:
        self.world.event("answered")
        self.world.waiting.remove(self.number)
        return self.group


class Ray:
    def wait(self, references, **_):
        return references[:1], references[1:]

    def get(self, reference):
        return reference.take()


class Problems(torch.utils.data.Dataset):
    def __init__(self, prompts: list[str]) -> None:
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, number: int) -> tuple:
        return "set", self.prompts[number], "", None

    def collate_fn(self, rows: list) -> tuple:
        return tuple(map(list, zip(*rows, strict=True)))


class Trainer(trainer.MathTrainer):
    def __init__(self, args: SimpleNamespace, world: World, folder: Path, problems: int) -> None:
        self.args, self.world, self.folder = args, world, folder
        strategy = SimpleNamespace(args=args, ds_device_mesh=None)
        strategy.setup_dataloader = lambda *given, **more: DeepspeedStrategy.setup_dataloader(strategy, *given, **more)
        set_seed(args.train.seed)
        prompts = Problems([f"problem {number}" for number in range(problems)])
        self.problems = ProblemOrder(args, prompts.prompts)
        loader = strategy.setup_dataloader(prompts, 1, False, True, prompts.collate_fn)
        self.prompts_dataloader = self.problems.put_into(loader, strategy)
        held_out = Problems(["question"])
        self.eval_dataloader = strategy.setup_dataloader(held_out, 1, False, False, held_out.collate_fn)
        for name in ("show", "watchdog", "rollouts", "bad_steps", "kl_ctl", "limit"):
            setattr(self, name, MagicMock())
        self.stop = MagicMock(number=None)
        self.phases = MagicMock(transfer=lambda: world.transfer(self.engines.version))
        self.phases.take_report.return_value = {}
        self.engines = MagicMock(version=0)
        self.engines.take_restarts.return_value = 0
        self.ungraded = MagicMock()
        self.ungraded.take.side_effect = lambda: [{"asked": len(world.events)}]
        self.ungraded.write = lambda step, items: None
        self.vllm_engines, self.actor_model_group = [None], MagicMock()
        self.kl_ctl.value, self.batches, self.trained, self.batch = 0.0, 1, False, None
        self.critic_model_group = self.wandb_logger = self.tensorboard_logger = None
        self.best_eval_metric_key, self.best_eval_metric_value, self._latest_eval_metric_value = "none", 0.0, None
        self.generate_kwargs = {"max_len": 64, "max_new_tokens": None}
        self.checkpointing = Checkpointing(args.ckpt.save_steps, True, self.stop, self._write_checkpoint)
        collaborators = {name: getattr(self, name) for name in ("engines", "phases", "problems", "ungraded")}
        self.samples_generator = MathSamplesGenerator(
            strategy, self.prompts_dataloader, self.eval_dataloader, [None], watchdog=self.watchdog, show=self.show,
            **collaborators,
        )  # fmt: skip

    def _write_checkpoint(self, step: int, states: dict) -> None:
        self.world.event("saving", step)
        file = io.BytesIO()
        torch.save(states | {"global_step": step}, file)
        (self.folder / "disk").write_bytes(file.getvalue())
        self.world.event("saved", step)


def upstream_step(self: Trainer, samples: list, step: int) -> tuple[dict, int]:
    self.world.event("train", step)
    assert samples is self.samples_generator.taken.samples
    status = {"timing/broadcast": 1.0, "timing/step_total": 1.0, "skipped_steps": 0.0}
    status["trained_on"] = [(one.prompts[0], one.rewards.item(), one.graded.weights) for one in samples]
    status["limit"] = self.args.rollout.max_new_tokens  # what penalties would go by
    self.ppo_train(step)
    self.broadcast_to_vllm()
    return status, step + 1


def upstream_states(self: Trainer) -> dict:
    if not (self.folder / "disk").exists():
        return {"episode": 0, "global_step": 0, "total_consumed_prompts": 0, "data_loader_state_dict": {}}
    return torch.load(self.folder / "disk", weights_only=True)


@pytest.fixture
def upstream(monkeypatch):
    """OpenRLHF without actors."""
    monkeypatch.setattr(trainer.ray, "get", lambda answer: [""])
    monkeypatch.setattr(trainer.ray, "put", lambda state: state)
    monkeypatch.setattr(engine_recovery, "Answers", lambda *_: Ray())
    monkeypatch.setattr(
        engine_recovery.RecoveringGenerator, "_dispatch_prompts_to_vllm",
        lambda self, prompts, *_, **arguments: [
            self.phases.world.ask(prompt, self.step, 4, arguments["max_new_tokens"]) for prompt in prompts
        ],
    )  # fmt: skip
    monkeypatch.setattr(trainer.UpstreamTrainer, "train_step", upstream_step)
    monkeypatch.setattr(trainer.UpstreamTrainer, "ppo_train", lambda self, step: self.world.event("gradient") or {})
    monkeypatch.setattr(trainer.UpstreamTrainer, "init_checkpoint_states", upstream_states)
    for module in (ppo_trainer, samples_generator):
        monkeypatch.setattr(module, "tqdm", MagicMock())
        monkeypatch.setattr(module, "logger", MagicMock())


def live(args: SimpleNamespace, folder: Path, problems: int, kill_at: int | None = None) -> World:
    """One life of a run, from what is on its disk to its end or its kill."""
    world = World(kill_at)
    done = torch.load(folder / "disk", weights_only=True)["global_step"] if (folder / "disk").exists() else 0
    for name in RECORDS:
        keep_until(folder / name, done)
    run = Trainer(args, world, folder, problems)
    run.phases.world = world
    try:
        run.fit()
    except Killed:
        assert kill_at is not None
    run.show.begin.assert_called_once_with(done + 1)  # the step that it says is being taken
    return world


def left(folder: Path) -> dict[str, list[dict]]:
    """What a run recorded, without what is measured."""
    return {
        name: [
            {key: value for key, value in record.items() if not key.startswith(MEASURED)}
            for record in read_objects(folder / name)
        ]
        for name in RECORDS
    }


def write_problems(folder: Path, problems: int) -> str:
    rows = [{"datasource": "a", "problem": f"problem {n}", "difficulty": n % 3} for n in range(problems)]
    path = folder / "problems-as-prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
