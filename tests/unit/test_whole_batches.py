"""Problems that fill no batch: refused, said, and not generated for; no model is saved that took no step."""

import json
from unittest.mock import MagicMock

import pytest
from openrlhf.trainer.ppo_trainer import PPOTrainer
from rollout_without_engines import generator, response
from trained_batch import settings

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world.world import build_tokenizer
from openrlhf_math.grpo.faults.stopping import Checkpointing
from openrlhf_math.grpo.trainer import MathTrainer

BATCH = ("--rollout.batch_size", 4, "--rollout.n_samples_per_prompt", 2)
UpstreamTrainer = PPOTrainer.__ray_metadata__.modified_class


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer(["1+1=2"]).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    return folder


def grpo(model, tmp_path, problems: int, *flags) -> int:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"problem": f"{n}+1", "answer": str(n + 1)}) + "\n" for n in range(problems)))
    return main(["grpo", "--actor.model_name_or_path", str(model), "--data.prompt_dataset", str(data),
                 "--math.run_dir", str(tmp_path / "run"), *map(str, flags)])  # fmt: skip


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("problems", "flags", "named"),
    [
        (40, ("--data.max_samples", 10), "--data.max_samples 10"),
        (10, (), "data.jsonl has 10 problems"),
        (10, ("--data.max_samples", 12), "--data.max_samples 12"),
    ],
)
def test_fewer_problems_than_a_batch_are_refused_before_start(model, tmp_path, capsys, problems, flags, named, dry):
    assert grpo(model, tmp_path, problems, *flags, *dry) == 2
    error = capsys.readouterr().err
    assert named in error and "--rollout.batch_size 16" in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag", ["rollout.batch_size", "rollout.n_samples_per_prompt", "train.batch_size", "train.num_episodes",
             "train.max_epochs"]
)  # fmt: skip
def test_settings_that_give_no_step_are_refused(model, tmp_path, capsys, flag):
    assert grpo(model, tmp_path, 40, f"--{flag}", 0, "--dry-run") == 2
    error = capsys.readouterr().err
    assert f"--{flag} 0" in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("size", [0, -4, 8, 32])
def test_engines_that_are_asked_for_more_or_less_than_a_batch_are_refused(model, tmp_path, capsys, size):
    code = grpo(model, tmp_path, 40, "--rollout.vllm_generate_batch_size", size, "--dry-run")
    assert code == (0 if size == 0 else 2)  # 0 is OpenRLHF's for as many as a batch
    assert size == 0 or f"--rollout.vllm_generate_batch_size {size}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problems", "flags", "result"),
    [
        (40, (), "problems: 40, 2 batches of 16 an episode; the last 8 of an episode fill no batch and are left out"),
        (32, (), "problems: 32, 2 batches of 16 an episode\n"),
        (40, ("--data.max_samples", 17), "problems: 17, 1 batches of 16 an episode; the last 1 of an episode"),
    ],
)
def test_dry_run_counts_batches(model, tmp_path, capsys, problems, flags, result):
    assert grpo(model, tmp_path, problems, *flags, "--dry-run") == 0
    assert " ".join(result.split()) in " ".join(capsys.readouterr().out.split())


def test_leftover_prompts_are_reported_and_not_used(monkeypatch):
    answers = {str(n): [response(str(n), n / 10)] * 2 for n in range(10)}
    made = generator(settings(*BATCH), answers, monkeypatch)
    for _ in range(2):  # episodes
        batches = [made.generate_samples() for _ in range(3)]
        assert [len(samples) for samples, *_ in batches] == [8, 8, 0]
        assert [exhausted for *_, exhausted in batches] == [False, False, True]
        assert {prompt for samples, *_ in batches for one in samples for prompt in one.prompts} == set("01234567")
        assert made.ungraded.note.call_count == 16, "two prompts were not asked for"
        made.ungraded.note.reset_mock()
    assert made.show.say.call_count == 2 and "2 prompts" in made.show.say.call_args[0][0]


def test_groups_left_by_dynamic_filtering_are_reported(monkeypatch):
    answers = {str(n): [response(str(n), 0.0), response(str(n), float(n < 3))] for n in range(5)}
    made = generator(settings(*BATCH, "--algo.dynamic_filtering_enable"), answers, monkeypatch)
    samples, *_, exhausted = made.generate_samples()
    assert samples == [] and exhausted
    assert "5 prompts" in made.show.say.call_args[0][0], "three groups have a gradient, which is not a batch of four"


def test_evaluation_takes_every_prompt(monkeypatch):
    answers = {str(n): [response(str(n), 1.0)] * 2 for n in range(6)}
    made = generator(settings(*BATCH), answers, monkeypatch)
    made.eval_dataloader = made.prompts_dataloader
    assert len(made.generate_eval_samples()) == 12


def trainer(global_step: int = 0) -> MathTrainer:
    made = object.__new__(MathTrainer)
    made.args, made.trained = settings(*BATCH), global_step > 0
    for name in ("stop", "prompts_dataloader", "show", "watchdog", "actor_model_group"):
        setattr(made, name, MagicMock())
    made.checkpointing = Checkpointing(None, True, made.stop, MagicMock())
    made.prompts_dataloader.dataset = ["problem"] * 10
    return made


def test_run_without_an_optimizer_step_fails(monkeypatch):
    monkeypatch.setattr(UpstreamTrainer, "fit", lambda *_: None)
    monkeypatch.setattr("openrlhf_math.grpo.trainer.ray.get", lambda _: [""])
    with pytest.raises(RuntimeError, match="no optimizer step"):
        trainer().fit()
    trainer(global_step=3).fit()  # it went on after its last step
    made = trainer()
    monkeypatch.setattr(made, "trained", True)
    made.fit()
    assert "the last 2" in made.show.say.call_args[0][0]


@pytest.mark.parametrize(
    ("status", "trained"),
    [({"skipped_steps": 0.0}, True), ({"skipped_steps": 1.0}, True), ({"skipped_steps": 2.0}, False), ({}, False)],
)
def test_steps_skipped_by_deepspeed_do_not_count(monkeypatch, status, trained):
    """Of a batch of two optimizer steps. Without the key the policy was frozen."""
    made = trainer()
    made.args = settings(*BATCH, "--train.batch_size", 4)
    for name in ("engines", "phases", "samples_generator"):
        setattr(made, name, MagicMock())
    made.samples_generator.taken = MagicMock(limit=None, drawn={}, metrics={}, span=None)
    made.samples_generator.taken.off_policy.return_value = {}
    monkeypatch.setattr("openrlhf_math.grpo.trainer.append_jsonl", lambda *_: None)
    monkeypatch.setattr(UpstreamTrainer, "train_step", lambda self, samples, step: ({"truncated": 0.0} | status, 1))
    made.train_step([], 0)
    assert made.trained == trained
