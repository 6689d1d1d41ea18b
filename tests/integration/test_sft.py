"""`openrlhf-math sft` on the real stack: what it leaves, and a killed run that resumes with identical results."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest


def command(demo, run_dir, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "openrlhf_math", "sft", "--model.model_name_or_path", str(demo / "world" / "model"),
        "--data.dataset", str(demo / "traces" / "dataset"), "--data.max_samples", "320", "--math.instruction", "",
        "--data.max_len", "256", "--train.batch_size", "8", "--train.micro_batch_size", "8", "--train.max_epochs", "1",
        "--adam.lr", "2e-3", "--ckpt.save_steps", "10", "--math.run_dir", str(run_dir), *more,
    ]  # fmt: skip


def records(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(demo, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("sft") / "whole"
    subprocess.run(command(demo, run_dir), check=True, capture_output=True, timeout=300)
    return run_dir


def test_loss_decreases_and_is_plotted(whole):
    losses = [record["loss"] for record in records(whole)]
    assert len(losses) == 40
    assert losses[-1] < 0.5 * losses[0]
    assert (whole / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_killed_run_resumes_with_identical_results(demo, whole, tmp_path):
    run_dir = tmp_path / "killed"
    process = subprocess.Popen(command(demo, run_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics, end = run_dir / "metrics.jsonl", time.time() + 200
    while process.poll() is None and time.time() < end:
        if metrics.exists() and metrics.read_text().count("\n") >= 25:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it was killed"

    newest = max((run_dir / "checkpoints").glob("global_step*"), key=lambda path: int(path.name[11:]))
    if int(newest.name[11:]) > 10:  # torn, as a kill within the saving leaves it: the one before is taken
        torn = next(iter(sorted(newest.glob("*.pt"))))
        torn.write_bytes(torn.read_bytes()[:-1000])
    result = subprocess.run(
        command(demo, run_dir, "--ckpt.load_enable"), check=True, capture_output=True, text=True, timeout=300
    )
    assert f"checkpoint {newest.name} is refused" in result.stdout
    assert [record["step"] for record in records(run_dir)] == list(range(1, 41))
    for resumed, uninterrupted in zip(records(run_dir), records(whole), strict=True):
        assert resumed["loss"] == pytest.approx(uninterrupted["loss"], rel=1e-3)


def test_resuming_with_other_rows_is_refused(demo, whole, tmp_path):
    more = ("--ckpt.load_enable", "--adam.lr", "1e-3")
    result = subprocess.run(command(demo, whole, *more), capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert "began with --adam.lr 0.002, not 0.001" in result.stderr


TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.slow
def test_gathered_parameters_are_available():
    script = str(Path(__file__).with_name("gathers.py"))
    result = subprocess.run([sys.executable, *TWO, script], capture_output=True, text=True, timeout=300)
    assert result.stdout.splitlines().count("0 wrong") == 2, result.stdout + result.stderr


STEPS = [
    pytest.param("2 dynamic", [], id="ZeRO-2, the trainer ends the step"),
    pytest.param("2 managed", [], marks=pytest.mark.slow, id="ZeRO-2, DeepSpeed counts"),
    pytest.param("2 dynamic offload", [], marks=pytest.mark.slow, id="ZeRO-2 with the optimizer in CPU memory"),
    pytest.param("2 dynamic", TWO, marks=pytest.mark.slow, id="ZeRO-2, two processes"),
    pytest.param("1 dynamic", [], marks=pytest.mark.slow, id="ZeRO-1"),
    pytest.param("3 dynamic", [], marks=pytest.mark.slow, id="ZeRO-3"),
]


@pytest.mark.parametrize(("how", "launcher"), STEPS)
def test_optimizer_steps_over_two_micro_batches_match_the_formula(how, launcher):
    script = str(Path(__file__).with_name("optimizer_steps.py"))
    result = subprocess.run(
        [sys.executable, *launcher, script, *how.split()], capture_output=True, text=True, timeout=300
    )
    found = json.loads([line for line in result.stdout.splitlines() if line.startswith("{")][-1])
    assert found["stage"] == int(how[0])
    assert found["norms"] == pytest.approx([1, 1, 1], abs=0.01)
    assert found["error"] < 1e-6
    assert found["peak"] <= 3.1, "in units of the weights: two states, without temporaries as AdamW's loop has them"


def with_tokenizer_of(demo, family: str, directory: Path) -> Path:
    """A tiny model of a family with random weights and the demo's tokenizer."""
    import torch
    from families import FAMILIES
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo / "world" / "model")
    own = {"vocab_size": 384, "bos_token_id": None, "max_position_embeddings": 64 if "dynamic" in family else 256}
    own |= {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id")}
    torch.manual_seed(0)
    one = FAMILIES[family]
    AutoModelForCausalLM.from_config(replace(one, settings=one.settings | own).config()).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("family", ["", "qwen3.5-text", "llama-dynamic"])
def test_two_processes_match_one(demo, tmp_path, family):
    """The last two take a forward pass for each row: processes whose rows differ would wait for one another."""
    model = with_tokenizer_of(demo, family, tmp_path / "model") if family else demo / "world" / "model"
    more = ("--model.model_name_or_path", str(model), "--data.max_samples", "80", "--train.micro_batch_size", "4")
    subprocess.run(command(demo, tmp_path / "one", *more), check=True, capture_output=True, timeout=300)
    python, *module = command(demo, tmp_path / "two", *more, "--ds.zero_stage", "3")
    result = subprocess.run([python, *TWO, *module], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    losses = [[record["loss"] for record in records(tmp_path / name)] for name in ("one", "two")]
    assert len(losses[0]) == 10
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert (tmp_path / "two" / "model" / "model.safetensors").exists() and (tmp_path / "two" / "loss.png").exists()


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        ({"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}] * 2},
         ["--data.multiturn", "--data.input_key", "messages"]),
        pytest.param(
            {"text": "One and one is two."},
            ["--model.pretrain_mode_enable", "--data.input_key", "text"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["conversations", "text"],
)  # fmt: skip
def test_other_openrlhf_row_formats(demo, tmp_path, row, flags):
    rows = tmp_path / "rows.jsonl"
    rows.write_text((json.dumps(row) + "\n") * 24)
    flags = ["--data.dataset", str(rows), *flags]
    subprocess.run(command(demo, tmp_path / "run", *flags), check=True, capture_output=True, timeout=300)
    losses = [record["loss"] for record in records(tmp_path / "run")]
    assert len(losses) == 3 and losses[2] < losses[0]

    wrong = command(demo, tmp_path / "wrong", *flags[:-1], "missing")
    result = subprocess.run(wrong, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2 and "has no column 'missing'" in result.stderr
    assert not (tmp_path / "wrong").exists()
