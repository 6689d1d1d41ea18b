"""`--math.overlap 1`: which problems, which weights and which limit each batch has, however often the run is killed."""

import json
import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from run_without_engines import chance, left, live, upstream, write_problems  # noqa: F401  (a fixture)
from trained_batch import settings

from openrlhf_math.cli import main
from openrlhf_math.grpo.rollout.batches import Batch, from_state, to_state
from openrlhf_math.grpo.rollout.kept_rollouts import Graded

BATCH, SIZE, PROBLEMS, EPISODES = 2, 4, 7, 2
STEPS = PROBLEMS // BATCH * EPISODES
SMALL = (
    "--rollout.batch_size", BATCH, "--rollout.n_samples_per_prompt", SIZE, "--train.num_episodes", EPISODES,
    "--no-train.colocate_all", "--eval.steps", 2, "--eval.n_samples_per_prompt", 4, "--data.max_len", 4096,
)  # fmt: skip
GROWS = (
    "--rollout.max_new_tokens", 100, "--math.grow_at", 0.4, "--math.grow_by", 2, "--math.grow_to", 800,
    "--math.grow_after", 1,
)  # fmt: skip
OVERLAP = ("--math.overlap", 1)


def run_settings(folder: Path, *flags):
    folder.mkdir()
    args = settings(*SMALL, "--math.run_dir", folder, "--ckpt.save_steps", 1, *flags)
    args.data.prompt_dataset = write_problems(folder, PROBLEMS)
    return args


@pytest.fixture
def least_seen(monkeypatch):
    """A curriculum whose next batch has no choice: the problems seen least, in an order that turns with each step."""
    module = types.ModuleType("plugged")

    def choose(known, settings):
        rank = np.lexsort((turned(known.step, len(known.seen)), known.seen))
        weights = np.zeros(len(rank))
        weights[rank[:BATCH]] = 1.0
        return weights

    module.choose = choose
    monkeypatch.setitem(sys.modules, "plugged", module)
    return ("--math.curriculum", "plugged.choose")


def turned(step: int, problems: int) -> np.ndarray:
    return (np.arange(problems) * 3 + step * 2) % problems


def simulated(overlap: int) -> list[dict]:
    """What each step should be, by counting alone: a batch is written with the weights that there are when the one
    before it is handed to the trainer, or with those of its own step if there is no overlap."""
    seen, limit, steps = [0] * PROBLEMS, 100, []
    for number in range(STEPS):
        order = sorted(range(PROBLEMS), key=lambda one: (seen[one], (one * 3 + number * 2) % PROBLEMS))
        version = max(0, number - overlap)
        draws = {
            problem: [chance(f"problem {problem}", version, number, sample) for sample in range(SIZE)]
            for problem in sorted(order[:BATCH])
        }
        cut = sum(draw > 0.6 for group in draws.values() for draw in group) / BATCH / SIZE
        steps.append(
            {"step": number + 1, "version": version, "limit": limit, "problems": list(draws),
             "correct": [sum(draw < 0.4 for draw in group) for group in draws.values()]}
        )  # fmt: skip
        if cut > 0.4:
            limit = min(2 * limit, 800)
        for problem in draws:
            seen[problem] += 1
    return steps


def observed(folder: Path) -> list[dict]:
    records = left(folder)
    return [
        {"step": step["step"], "version": step["weights_version"], "limit": step["max_new_tokens"],
         "problems": drawn["problems"], "correct": drawn["correct"]}
        for step, drawn in zip(records["metrics.jsonl"], records["problems.jsonl"], strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("overlap", [0, 1])
def test_problems_weights_and_limits_match_a_simulation(upstream, least_seen, tmp_path, overlap):  # noqa: F811
    args = run_settings(tmp_path / "run", *least_seen, *GROWS, "--math.overlap", overlap)
    live(args, tmp_path / "run", PROBLEMS)
    expected = simulated(overlap)
    assert observed(tmp_path / "run") == expected
    assert len({step["limit"] for step in expected}) > 1, "the limit grew"
    for number, record in enumerate(left(tmp_path / "run")["metrics.jsonl"]):
        assert record["off_policy_steps"] == min(number, overlap)
        assert record["limit"] == record["max_new_tokens"], "penalties go by the batch's own limit"


def test_engines_start_before_training_and_finish_before_weights_arrive(upstream, tmp_path):  # noqa: F811
    args = run_settings(tmp_path / "run", *OVERLAP)
    events = live(args, tmp_path / "run", PROBLEMS).events
    at = {what: number for number, what in enumerate(events) if what[0] in ("train", "gradient", "weights", "saving")}
    asked = [(number, what[2]) for number, what in enumerate(events) if what[0] == "asked" and what[1] != "question"]
    trained = [number for number, what in enumerate(events) if what[0] == "gradient"]
    weights = [at["weights", step] for step in range(1, STEPS + 1)]
    assert len(asked) == BATCH * STEPS and len(trained) == STEPS
    for step in range(1, STEPS):  # what is trained in step + 1
        questions = asked[BATCH * step : BATCH * (step + 1)]
        assert all(at["train", step - 1] > number and version == step - 1 for number, version in questions)
        assert trained[step - 1] < weights[step - 1] < at["saving", step]
    for step in range(2, STEPS + 1, 2):
        begun = at["saving", step]
        question = next(what for what in events[begun:] if what[1] == "question")
        assert question[2] == step, "an evaluation has the newest weights"


def test_uniform_order_is_the_same_with_overlap(upstream, tmp_path):  # noqa: F811
    orders = []
    for name, flags in (("turns", ()), ("overlap", OVERLAP)):
        live(run_settings(tmp_path / name, *flags), tmp_path / name, PROBLEMS)
        steps = left(tmp_path / name)["metrics.jsonl"]
        orders.append([[prompt for prompt, *_ in step["trained_on"][::SIZE]] for step in steps])
    assert orders[0] == orders[1] and len(orders[0]) == STEPS
    for episode in range(EPISODES):
        a_pass = orders[0][episode * STEPS // EPISODES : (episode + 1) * STEPS // EPISODES]
        assert set(Counter(prompt for batch in a_pass for prompt in batch).values()) == {1}


FILTERED = ("--algo.dynamic_filtering_enable", "--train.num_episodes", 3)
WINDOW = ("--math.curriculum", "window")
CASES = {
    "in turns": (*WINDOW, *FILTERED),
    "uniform": OVERLAP,
    "curriculum": (*OVERLAP, *WINDOW, "--ckpt.save_steps", 2),
    "filtered": (*OVERLAP, *FILTERED),
    "filtered curriculum": (*OVERLAP, *WINDOW, *FILTERED),
}


@pytest.mark.parametrize("flags", CASES.values(), ids=CASES)
def test_run_killed_in_any_phase_equals_an_undisturbed_run(upstream, tmp_path, flags):  # noqa: F811
    flags = (*GROWS, *flags)
    args = run_settings(tmp_path / "whole", *flags)
    events = live(args, tmp_path / "whole", PROBLEMS).events
    whole = left(tmp_path / "whole")
    steps = [record["step"] for record in whole["metrics.jsonl"]]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= (2 if set(FILTERED) <= set(flags) else STEPS)
    assert [record["step"] for record in whole["eval.jsonl"]] == steps[1::2]
    last_of_its_kind = {kind: number for number, (kind, *_) in enumerate(events)}
    for number in {*range(0, len(events), 3), *last_of_its_kind.values()}:
        folder = tmp_path / f"killed at {number}"
        args = run_settings(folder, *flags)
        assert len(live(args, folder, PROBLEMS, kill_at=number).events) == number
        live(run_settings_again(args), folder, PROBLEMS)
        assert left(folder) == whole, (number, events[number])


def run_settings_again(args):
    """Settings change while a run continues; a process that resumes reads them again."""
    args.rollout.max_new_tokens = args.math.completion_limit.last
    return args


def test_run_killed_repeatedly_equals_an_undisturbed_run(upstream, tmp_path):  # noqa: F811
    flags = (*GROWS, *CASES["curriculum"], "--ckpt.save_steps", 1)
    live(run_settings(tmp_path / "whole", *flags), tmp_path / "whole", PROBLEMS)
    args, lives = run_settings(tmp_path / "killed", *flags), 0
    while len(live(run_settings_again(args), tmp_path / "killed", PROBLEMS, kill_at=23).events) == 23:
        lives += 1
        assert lives < 60
    assert lives > 1 and left(tmp_path / "killed") == left(tmp_path / "whole")


def test_batch_is_restored_from_a_checkpoint():
    args = settings("--rollout.batch_size", 1, "--rollout.n_samples_per_prompt", 2, *SMALL[4:])
    from rollout_without_engines import generator, response

    group = [response("p", 0.1 + n / 3, tokens=3 + n, truncated=n > 0, weights=5 + n, text="\ud800 ü") for n in (0, 1)]
    group[0]["rollout_log_probs"] = [0.0, 0.0, -0.1, -1e-30, -7.123456789]
    with pytest.MonkeyPatch.context() as patch:
        samples, *_ = generator(args, {"p": group}, patch).generate_samples()
    batch = Batch(samples, None, 1, False, 0, None, {3: [True, False]}, [{"reason": "r"}], (1.5, 2.5))
    empty = Batch([], 12.5, 7, True, 7, 64)
    states = to_state([empty, batch])
    assert all(isinstance(one, str | torch.Tensor) for one in states.values())
    one, other = from_state(states)
    assert one == empty
    plain, others = ({**vars(each), "samples": None} for each in (batch, other))
    assert plain == others
    for sample, again in zip(batch.samples, other.samples, strict=True):
        assert vars(sample).keys() == vars(again).keys() and isinstance(again.graded, Graded)
        assert again.graded == sample.graded
        for name, value in vars(sample).items():
            for left_, right in (
                [(value[key], getattr(again, name)[key]) for key in value]
                if name == "info"
                else [(value, getattr(again, name))]
            ):
                if isinstance(left_, torch.Tensor):
                    assert left_.dtype == right.dtype and torch.equal(left_, right), name
                else:
                    assert left_ == right or name == "graded", name
    former = {**states, "text": states["text"].replace("ungraded", "undecided")}  # of the release before
    assert [each.ungraded for each in from_state(former)] == [[], [{"reason": "r"}]]
    assert from_state(former)[1].samples[0].info.keys() == batch.samples[0].info.keys()
    assert batch.off_policy(6) == {"weights_version": 5.0, "off_policy_steps": 0.5}
    assert batch.truncated() == 0.5


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (OVERLAP, "--math.overlap 1: engines that share the policy's devices"),
        ((*OVERLAP, "--train.colocate_all"), "give --no-train.colocate_all, and with --vllm.num_engines"),
        (("--train.async_enable",), "--train.async_enable: OpenRLHF's asynchronous trainer"),
        (("--train.partial_rollout_enable",), "give --math.overlap 1 --no-train.colocate_all"),
        (("--train.async_queue_size", 2), "--train.async_queue_size"),
    ],
)
def test_invalid_overlap_is_refused(flags, sentence, capsys):
    command = ("--actor.model_name_or_path", "some/model-1.5B", "--data.prompt_dataset", "some/data", "--dry-run")
    assert main(["grpo", *command, *map(str, flags)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), ("off", "off")),
        (OVERLAP, ("auto", "token")),
        ((*OVERLAP, "--math.rollout_correction", "off"), ("off", "off")),
        ((*OVERLAP, "--math.rollout_correction", "seq"), ("seq", "seq")),
        ((*OVERLAP, "--algo.advantage.is_correction_level", "seq"), ("off", "seq")),
        ((*OVERLAP, "--math.correct_below_ess", 0.5), ("auto", "token")),
    ],
)
def test_stale_rollouts_are_corrected_by_default(flags, expected):
    args = settings("--no-train.colocate_all", *flags)
    assert (args.math.objective.rollout_correction, args.algo.advantage.is_correction_level) == expected


def test_dry_run_reports_it(capsys, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    (tmp_path / "tokenizer_config.json").write_text("{}")
    command = ["grpo", "--actor.model_name_or_path", str(tmp_path), "--data.prompt_dataset", "some/data"]
    assert main([*command, *map(str, OVERLAP), "--no-train.colocate_all", "--dry-run"]) == 0
    told = capsys.readouterr().out
    config = json.loads(told[: told.index("\n}") + 2])
    assert config["math"]["overlap"] == 1 and config["train"]["colocate_all"] is False
    assert "overlap: engines generate a batch while the policy trains on the one before" in told
    assert "devices: 2" in told and "batches that older weights wrote" in config["objective"]["rollout correction"]
