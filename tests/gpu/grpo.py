"""A short GRPO run of the demo's student, who has learned from the demo's teacher, with the engine's defaults.

On a GPU vLLM then uses CUDA graphs. Prints a Markdown table of the steps and writes them as JSON.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from openrlhf_math.cli.demo import teach_student
from openrlhf_math.cli.stages import command

SHOWN = ("accuracy", "completion_length", "logprob_gap", "timing/step_total", "timing/generation", "timing/ppo_train",
         "memory/peak_gib", "seconds_since_start")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="one step of a model with random weights")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    groups, steps = (2, 1) if args.small else (16, 8)
    seconds = {}
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "grpo"
        world, model = Path(directory) / "world", Path(directory) / "sft" / "model"
        start = time.perf_counter()
        if args.small:
            command("tiny-world", world)
            model = world / "model"
        else:
            teach_student(str, Path(directory), seed=0)
        seconds["student"] = time.perf_counter() - start
        start = time.perf_counter()
        command(
            "grpo", "--actor.model_name_or_path", model, "--data.prompt_dataset", world / "train.jsonl",
            "--data.max_samples", groups * steps, "--math.run_dir", run, "--math.device", args.device,
            "--math.instruction", "", "--math.answer_style", "think", "--data.max_len", 256,
            "--rollout.max_new_tokens", 32 if args.small else 128, "--rollout.batch_size", groups,
            "--rollout.n_samples_per_prompt", 2 if args.small else 8, "--actor.adam.lr", "2e-4",
            "--actor.lr_scheduler", "constant_with_warmup", "--actor.entropy_coef", 0,
        )  # fmt: skip
        seconds["grpo"] = time.perf_counter() - start
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    shown = [name for name in SHOWN if name in records[0]]
    print(f"| step | {' | '.join(shown)} |\n|{'---:|' * (len(shown) + 1)}")
    for number, record in enumerate(records, 1):
        print(f"| {number} | {' | '.join(f'{record[name]:.4g}' for name in shown)} |")
    args.json.write_text(json.dumps({"seconds": seconds, "steps": records}, indent=2) + "\n")


if __name__ == "__main__":
    main()
