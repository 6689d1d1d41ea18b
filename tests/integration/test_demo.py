"""What the demo leaves and shows, and the poster's identity of the flat loss on the real stack."""

import json

import datasets
import pytest

from openrlhf_math.rewards import grade


@pytest.fixture(scope="module")
def records(demo):
    return [json.loads(line) for line in (demo / "grpo" / "metrics.jsonl").read_text().splitlines()]


def test_summary(demo):
    summary = json.loads((demo / "summary.json").read_text())
    for when in ("before", "after"):
        low, high = summary[when]["ci95"]
        assert 0 <= low <= summary[when]["pass_at_1"] <= high <= 1
        assert 1 < summary[when]["completion_tokens"] <= 128
    assert summary["steps"] == 6
    assert summary["seconds_total"] > summary["seconds_to_first_step"] > summary["seconds_per_step"] > 0


def test_student_data_was_curated(demo):
    counts = json.loads((demo / "problems" / "reports" / "counts.json").read_text())
    left = dict(counts["steps"])
    assert left["rows read"] - left["filter: gold"] == 72, "rows without a gold"
    assert counts["contaminated"]["heldout"] >= 60, "held-out problems said otherwise"
    assert left["problems of benchmarks"] - left["near-duplicates"] >= 360, "duplicates said otherwise"


def test_student_data_was_verified(demo):
    rows = datasets.load_dataset(str(demo / "traces" / "dataset"), split="train")
    report = json.loads((demo / "traces" / "report.json").read_text())
    assert len(rows) == report["counts"]["kept"] > 0.7 * report["counts"]["attempts"]
    assert len(rows) < report["counts"]["attempts"], "the teacher errs on purpose"
    assert all(grade(row["response"], row["answer"]).outcome == "correct" for row in rows.select(range(200)))


def test_student_improved_and_has_room_to_improve(demo):
    """An SFT student that solves nothing or everything would show nothing of GRPO."""
    assert 0.2 < json.loads((demo / "summary.json").read_text())["before"]["pass_at_1"] < 0.8


def test_loss_is_zero_in_every_step_and_the_gradient_is_not(records):
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    for record in records:
        assert abs(record["policy_loss"]) < 1e-5
        assert record["grad_norm"] > 1e-3


def test_rollouts_come_from_the_newest_weights(records):
    assert max(record["logprob_gap"] for record in records) < 0.03


def test_metrics_include_the_main_questions(records):
    for name in ("reward", "accuracy", "completion_length", "truncation_rate", "ungraded_rate", "learning_rate",
                 "timing/generation", "timing/ppo_train", "timing/broadcast", "timing/step_total"):  # fmt: skip
        assert name in records[0], name
    assert records[0]["ungraded_rate"] == 0


def test_tensorboard_holds_the_same_numbers(demo, records):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (demo / "grpo" / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    rewards = [event.value for event in events.Scalars("train/reward")]
    assert rewards == pytest.approx([record["reward"] for record in records], rel=1e-5)


def test_configuration_is_kept(demo):
    config = json.loads((demo / "grpo" / "config.json").read_text())
    assert config["algo"]["kl"]["init_coef"] == 0 and config["algo"]["advantage"]["estimator"] == "grpo"


def test_reward_model_was_trained_and_used_in_votes(demo):
    learned = [json.loads(line) for line in (demo / "prm" / "run" / "eval.jsonl").read_text().splitlines()][-1]
    assert learned["auc"] > 0.6, "it tells right steps from wrong ones"
    reranked = json.loads((demo / "summary.json").read_text())["reranked"]
    assert list(reranked) == ["pass@1", "maj@8", "weighted@8", "best-of-8", "pass@8"]
    accuracy = {name: row["accuracy"] for name, row in reranked.items()}
    assert accuracy["pass@1"] < min(accuracy["maj@8"], accuracy["weighted@8"])
    assert max(accuracy.values()) == accuracy["pass@8"] < 1
    rows = [json.loads(line) for line in (demo / "rerank" / "attempts.jsonl").read_text().splitlines()]
    assert len(rows) == 300 and all(len(row["scores"]) == 8 for row in rows)
    assert (demo / "rerank" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_terminal_shows_the_table_and_file_paths(demo):
    text = (demo / "terminal.txt").read_text()
    parts = ("problems of benchmarks", "Yield by source", "before and after GRPO", "pass@1", " idle ")
    for part in (*parts, "summary.json", "metrics.jsonl"):
        assert part in text


def test_trained_model_loads_with_plain_transformers(demo):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(demo / "grpo" / "model")
    tokenizer = AutoTokenizer.from_pretrained(demo / "grpo" / "model")
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)
