"""`openrlhf-math prm` on the real stack: labels from the demo's student, a model that learns them, and vLLM."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from pyarrow import parquet

from openrlhf_math.data.tiny_world.problems import distinct_stories
from openrlhf_math.data.tiny_world.server import teach

SECONDS = 300


def prm(*arguments) -> list[str]:
    return [sys.executable, "-m", "openrlhf_math", "prm", *map(str, arguments)]


def run(command: list[str], timeout: int = SECONDS) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def kill_when(command: list[str], ready) -> None:
    """Run a command and `kill -9` it as soon as `ready()`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.time() + SECONDS
    while process.poll() is None and time.time() < end and not ready():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it was killed"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    """Labels of what the teacher writes, a third of it with a number that is off by one, a third with idle talk."""
    folder = tmp_path_factory.mktemp("prm")
    rows = []
    for number, story in enumerate(distinct_stories(400, seed=7)):
        response = teach(story, number, flawed=0.0).replace("</think>\n", "</think>\n\n")
        if number % 3 == 0:
            before, _, after = response.partition("=")
            response = f"{before}={(int(after[0]) + 1) % 10}{after[1:]}"
        elif number % 3 == 1:
            response = response.replace("</think>", "I think so.\n</think>")
        rows.append({"problem": story.text, "gold": str(story.answer), "response": response})
    attempts = folder / "attempts.jsonl"
    attempts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(prm("label", "--source", "tiny-world", "--separator", "\\n", "--heldout", "0.1", "--output", folder, attempts))
    return folder


def training(demo: Path, labels: Path, run_dir: Path, *more: str) -> list[str]:
    return prm(
        "train", "--model.model_name_or_path", demo / "sft" / "model", "--data.dataset", labels / "train.parquet",
        "--eval.dataset", labels / "heldout.parquet", "--eval.steps", "20", "--data.max_len", "320",
        "--train.batch_size", "8", "--train.micro_batch_size", "8", "--train.max_epochs", "1", "--adam.lr", "1e-3",
        "--ckpt.save_steps", "10", "--math.run_dir", run_dir, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(demo, labels, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("prm") / "whole"
    said = run(training(demo, labels, run_dir))
    assert "held-out steps, step 40: accuracy" in said
    return run_dir


def test_loss_decreases_and_is_plotted(trained):
    losses = [record["loss"] for record in lines(trained / "metrics.jsonl")]
    assert len(losses) >= 40 and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert [one["step"] for one in lines(trained / "eval.jsonl")] == [20, 40]
    assert (trained / "prm.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_killed_training_resumes_with_identical_results(demo, labels, trained, tmp_path):
    run_dir = tmp_path / "killed"
    metrics = run_dir / "metrics.jsonl"
    kill_when(training(demo, labels, run_dir), lambda: metrics.exists() and metrics.read_text().count("\n") >= 24)
    run(training(demo, labels, run_dir, "--ckpt.load_enable"))
    for resumed, whole in zip(lines(metrics), lines(trained / "metrics.jsonl"), strict=True):
        assert resumed["step"] == whole["step"]
        assert resumed["loss"] == pytest.approx(whole["loss"], rel=1e-3)
    assert lines(run_dir / "eval.jsonl")[-1]["loss"] == pytest.approx(
        lines(trained / "eval.jsonl")[-1]["loss"], rel=1e-3
    )


@pytest.mark.slow
def test_two_sharded_processes_match_one(demo, labels, trained, tmp_path):
    run_dir = tmp_path / "two"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    python, *module = training(demo, labels, run_dir, "--train.micro_batch_size", "4", "--ds.zero_stage", "3")
    run([python, *launcher, *module])
    two, one = ([record["loss"] for record in lines(each / "metrics.jsonl")] for each in (run_dir, trained))
    assert len(two) == len(one) and two[:10] == pytest.approx(one[:10], rel=2e-2)  # then bfloat16 leads them apart
    assert sum(two[10:]) == pytest.approx(sum(one[10:]), rel=0.1)
    assert (run_dir / "model" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def trainers(trained, labels) -> tuple[list[dict], list[list[float]], object]:
    """Held-out rows, the probabilities that the trainer's own model gives their steps, and the tokenizer."""
    from transformers import AutoTokenizer

    from openrlhf_math.prm.forms import QwenMathForm
    from openrlhf_math.prm.trainer import StepDataset, StepJudge

    rows = parquet.read_table(labels / "heldout.parquet").to_pylist()[:24]
    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    judge = StepJudge(str(trained / "model"), form=QwenMathForm(), longest=320)
    dataset = StepDataset(rows, tokenizer, 320, strategy=None, form=QwenMathForm())
    ids, values, mask = (part.squeeze(1) for part in dataset.collate_fn([dataset[n] for n in range(len(rows))]))
    with torch.no_grad():
        right = judge.judge(ids, values)[..., 1].exp()
    probabilities = [right[n][mask[n, :-1].bool()].tolist() for n in range(len(rows))]
    every = [one for each in probabilities for one in each]
    assert max(every) - min(every) > 0.5, "they hardly differ"
    return rows, probabilities, tokenizer


def test_vllm_loads_the_prm_and_agrees(trained, trainers):
    """In a separate process, with STEP pooling, as Qwen2.5-Math-PRM is served."""
    from openrlhf_math.rerank.steps import encode_prm

    rows, expected, tokenizer = trainers
    prompts = [encode_prm(tokenizer, row["problem"], row["steps"]).ids for row in rows]
    asked = {"prompts": prompts, "tag": tokenizer.convert_tokens_to_ids("<extra_0>")}
    said = subprocess.run(
        [sys.executable, "-c", STEP_POOLING, str(trained / "model")],
        input=json.dumps(asked), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-3000:]
    architecture, found = json.loads(said.stdout.splitlines()[-1])
    assert architecture == "Qwen2ForProcessRewardModel"
    for ours, vllms in zip(expected, found, strict=True):
        assert ours == pytest.approx(vllms, abs=0.03)


STEP_POOLING = """
import json, sys
from openrlhf_math.colocation.layout import enter_environment, inference_arguments
enter_environment("cpu", 1_000_000)
from vllm import LLM, TokensPrompt
from vllm.config import PoolerConfig
asked = json.load(sys.stdin)
llm = LLM(
    sys.argv[1], runner="pooling", dtype="bfloat16", max_model_len=512, enable_prefix_caching=False,
    enable_chunked_prefill=False,
    pooler_config=PoolerConfig(tok_pooling_type="STEP", step_tag_id=asked["tag"], returned_token_ids=[]),
    **inference_arguments("cpu") | {"kv_cache_memory_bytes": 1 << 26},
)
outputs = llm.encode([TokensPrompt(prompt_token_ids=ids) for ids in asked["prompts"]], pooling_task="token_classify")
right = [output.outputs.data[:, 1].tolist() for output in outputs]
print(json.dumps([llm.llm_engine.model_config.architecture, right]))
"""


def test_scorer_loads_the_prm_and_agrees(trained, trainers):
    from openrlhf_math.colocation.layout import enter_environment

    enter_environment("cpu", 1_000_000)
    from openrlhf_math.rerank.scoring_engine import ScorerSettings, ScoringEngine

    rows, expected, _ = trainers
    settings = ScorerSettings("qwen2.5-math-prm", str(trained / "model"), "cpu", max_context=512, separator="\n")
    engine = ScoringEngine(settings)

    async def score():
        return [(await engine.score(row["problem"], ["\n".join(row["steps"])]))[0] for row in rows]

    try:
        scores = asyncio.run(score())
    finally:
        engine.shutdown()
    for ours, scorers in zip(expected, scores, strict=True):
        assert ours == pytest.approx(scorers, abs=0.03)
    context = engine._engine.engine_core.resources.ctx
    ended = threading.Thread(target=context.term, daemon=True)  # what a garbage collection does: it waits for sockets
    ended.start()
    ended.join(60)
    assert not ended.is_alive()


def test_transformers_loads_it(trained):
    from transformers import AutoModel

    from openrlhf_math.prm.model import Qwen2ForProcessRewardModel

    _, ours = Qwen2ForProcessRewardModel.from_pretrained(trained / "model", output_loading_info=True)
    assert not ours["missing_keys"] and not ours["unexpected_keys"]
    backbone, theirs = AutoModel.from_pretrained(trained / "model", output_loading_info=True)
    assert type(backbone).__name__ == "Qwen2Model" and not theirs["missing_keys"]


def rollouts(demo: Path, attempts: Path, output: Path) -> list[str]:
    return prm(
        "label", "--source", "monte-carlo", "--model", demo / "sft" / "model", "--completions", "4", "--temperature",
        "1", "--max-tokens", "96", "--instruction", "", "--style", "think", "--separator", "\\n", "--device", "cpu",
        "--output", output, attempts,
    )  # fmt: skip


@pytest.mark.slow
def test_monte_carlo_labels_are_the_same_after_a_kill(demo, tmp_path):
    attempts = tmp_path / "attempts.jsonl"
    stories = distinct_stories(8, seed=11)
    solved = [{"problem": one.text, "gold": str(one.answer), "response": teach(one, 0, 0.0)} for one in stories]
    spoilt = [row | {"response": row["response"].replace("=", "=9", 1)} for row in solved[:4]]
    attempts.write_text("".join(json.dumps(row) + "\n" for row in (*solved, *spoilt)))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(rollouts(demo, attempts, whole))
    journal = killed / "journal.jsonl"
    kill_when(rollouts(demo, attempts, killed), lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 60)
    had = journal.read_bytes().count(b"\n")
    run(rollouts(demo, attempts, killed))
    names = [(record["key"], record["attempt"]) for record in lines(journal)]
    assert had < len(names) == len(set(names)), "it was asked twice, or was done when it was killed"
    assert set(names) == {(record["key"], record["attempt"]) for record in lines(whole / "journal.jsonl")}
    rows = parquet.read_table(whole / "train.parquet").to_pylist()
    assert len(rows) == 12 and all(0 <= label <= 1 for row in rows for label in row["labels"])
    assert all(row["labels"][-1] == 1 for row in rows[:8]), "a solution that ends right is right"
    assert parquet.read_table(killed / "train.parquet").to_pylist() == rows
