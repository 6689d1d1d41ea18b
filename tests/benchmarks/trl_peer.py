"""The peer of grpo_step.py: TRL's GRPOTrainer, one update a batch, no reference model. Runs in TRL's environment."""

import time

STARTED = time.time()

import argparse  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402


class Clock(TrainerCallback):
    """A line a step: seconds since the process began."""

    def __init__(self, path: Path, lengths: list[float]) -> None:
        self.path, self.lengths = path, lengths

    def on_step_end(self, args, state, control, **kwargs) -> None:
        with self.path.open("a") as file:
            record = {"seconds_since_start": time.time() - STARTED, "tokens": sum(self.lengths) / len(self.lengths)}
            file.write(json.dumps(record) + "\n")
        self.lengths.clear()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("problems", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--groups", type=int)
    parser.add_argument("--group-size", type=int)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--instruction")
    parser.add_argument("--reward", choices=("answers", "letters"))
    args = parser.parse_args()

    rows = [json.loads(line) for line in args.problems.open()]
    suffix = f"\n{args.instruction}" if args.instruction else ""
    data = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": row["problem"] + suffix}], "answer": row["answer"]} for row in rows]
    )
    lengths: list[float] = []

    def reward(completions, answer, completion_ids, **kwargs) -> list[float]:
        """As cheap as can be: the peer's step is not to pay for its reward."""
        lengths.extend(map(len, completion_ids))
        texts = [completion[0]["content"] for completion in completions]
        if args.reward == "letters":
            return [text.count("e") / max(len(text), 1) for text in texts]
        return [float(a.split()[-1] in text) for a, text in zip(answer, texts, strict=True)]

    samples = args.groups * args.group_size
    config = GRPOConfig(
        output_dir=str(args.output.with_suffix(".trl")),
        per_device_train_batch_size=args.micro_batch,
        gradient_accumulation_steps=samples // args.micro_batch,
        generation_batch_size=samples,
        num_generations=args.group_size,
        max_completion_length=args.max_tokens,
        max_steps=len(rows) // args.groups,
        num_iterations=1,
        beta=0.0,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        temperature=1.0,
        bf16=False,  # the model itself is bf16, as ours
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        model_init_kwargs={"dtype": torch.bfloat16},
    )
    GRPOTrainer(args.model, reward, args=config, train_dataset=data, callbacks=[Clock(args.output, lengths)]).train()


if __name__ == "__main__":
    main()
