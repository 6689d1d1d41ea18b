"""Small run directories as GRPO runs, fine-tunings, evaluations and demo runs leave them."""

import json
import math
from pathlib import Path

GRPO_SETTINGS = {
    "algo": {"kl": {"init_coef": 0.0}},
    "rollout": {"batch_size": 16, "n_samples_per_prompt": 8},
    "actor": {"adam": {"lr": 2e-4}, "model_name_or_path": "runs/sft/model"},
    "logger": {"wandb": {"key": "wandb-secret"}},
    "math": {"run_dir": "runs/grpo", "started_at": 1.0},
}
TUNING_SETTINGS = {"model": {}, "data": {"input_key": "problem"}, "optim": "adam"}


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def grpo_row(step: int, **changed) -> dict:
    """A record of a step that takes 2 s, of which 1.2 s are generation."""
    wave = math.sin(step / 3) / 20
    row = {
        "step": step, "seconds_since_start": 20.0 + 2 * step, "reward": 0.5 + wave + step / 1000,
        "accuracy": 0.4 + wave, "completion_length": 80.0 - step / 10, "truncation_rate": 0.1, "entropy_loss": 0.03,
        "grad_norm": 0.2 + wave, "kl": 0.0, "policy_loss": 1e-8 * wave, "logprob_gap": 0.001,
        "rollout_corr/kl": 1e-4, "rollout_corr/k3_kl": 1e-4, "rollout_corr/ess": 0.999, "rollout_corr/ratio_max": 1.1,
        "rollout_corr/corrected_rate": 0.0,
        "groups/solved_none": 0.2, "groups/solved_all": 0.1, "groups/pass_at_4": 0.6,
        "accuracy/source/a set": 0.5, "length/correct_mean": 60.0, "length/wrong_mean": 90.0, "ungraded_rate": 0.0,
        "format_rate": 0.9, "zero_advantage_rate": 0.1, "learning_rate": 2e-4, "rollout/num_samples": 128.0,
        "curriculum/mixed_rate": 0.9,
        "timing/generation": 1.2, "timing/make_experience": 0.1, "timing/ppo_train": 0.5, "timing/broadcast": 0.15,
        "timing/sleep": 0.05, "timing/wake_kv_cache": 0.2, "timing/reload": 0.1, "timing/offload": 0.1,
        "timing/wake_weights": 0.05, "timing/transfer": 0.1, "timing/step_total": 2.0, "memory/peak_gib": 3.0,
        **{
            f"memory/{move}_{side}": 1.0 + at / 4 + (side == "after") / 8
            for at, move in enumerate(("wake_kv_cache", "sleep", "reload", "offload", "wake_weights", "transfer"))
            for side in ("before", "after")
        },
    }  # fmt: skip
    return row | changed


def grpo_run(path: Path, steps: int = 30, settings: dict | None = None, **changed) -> Path:
    write_lines(path / "metrics.jsonl", [grpo_row(step, **changed) for step in range(1, steps + 1)])
    (path / "config.json").write_text(json.dumps(GRPO_SETTINGS | (settings or {})))
    return path


def rollout_row(**changed) -> dict:
    """A completion of a step as GRPO keeps it."""
    return {
        "step": 1, "problem_index": 0, "group": 0, "sample": 0, "source": "s", "problem": "1+1?", "gold": "2",
        "prompt": "<user>1+1?", "response": "so \\boxed{2}", "transcript": None, "tokens": 5,
        "truncated": False, "outcome": "correct", "graded_by": "gold",
        "extracted": "2", "reason": "", "reward": 1.0, "advantage": 0.5, "mean_log_prob": -0.25, "weights": 0,
        "prompt_tokens": [1, 2], "response_tokens": [3, 4, 5], "actions": [[0, 3]], "log_probs": [-0.25, -0.5, 0.0],
    } | changed  # fmt: skip


def tuning_run(path: Path, steps: int = 40) -> Path:
    rows = [
        {"step": step, "loss": 6 / step, "grad_norm": 1.0, "learning_rate": 1e-3} for step in range(1, steps + 1)
    ]  # fmt: skip
    write_lines(path / "metrics.jsonl", rows)
    write_lines(path / "eval.jsonl", [{"step": steps, "loss": 0.5, "tokens": 100}])
    (path / "config.json").write_text(json.dumps(TUNING_SETTINGS))
    return path


def evaluation(path: Path, correct: list[bool], response: str = "so \\boxed{2}.", **figures) -> Path:
    """correct: of each problem's two completions alike."""
    rows = [
        {
            "problem_index": number, "sample": sample, "problem": f"Problem {number}: 1+1?", "gold": "2",
            "response": response, "tokens": 20 + sample, "truncated": False,
            "outcome": "correct" if right else "format", "reward": 1.0 if right else 0.2, "answer": "2",
        }
        for number, right in enumerate(correct)
        for sample in range(2)
    ]  # fmt: skip
    write_lines(path / "completions.jsonl", rows)
    share = sum(correct) / len(correct)
    summary = {
        "benchmark": "sums", "problems": len(correct), "samples": 2, "pass_at_1": share,
        "ci95": [max(0, share - 0.1), min(1, share + 0.1)], "completion_tokens": 20.5, "tokens_per_correct": None,
        "truncation_rate": 0.0, "ungraded": 0, "pass_at_k": {"2": {"accuracy": share, "ci95": [share, share]}},
    }  # fmt: skip
    (path / "summary.json").write_text(json.dumps(summary | figures))
    return path


def whole_run(path: Path, response: str = "so \\boxed{2}.") -> Path:
    tuning_run(path / "sft")
    evaluation(path / "eval_before", [True] * 10 + [False] * 30, response)
    grpo_run(path / "grpo")
    evaluation(path / "eval_after", [True] * 30 + [False] * 10, response)
    reranked = {"pass@1": {"accuracy": 0.75, "ci95": [0.7, 0.8]}, "maj@8": {"accuracy": 0.8, "ci95": [0.76, 0.84]}}
    (path / "summary.json").write_text(json.dumps({"before": {}, "after": {}, "reranked": reranked}))
    return path
