"""What a correction of rollouts is worth, in one process and without engines: python tests/benchmarks/mismatch.py

GRPO on the tiny world's problems with the product's advantages and loss. The completions are sampled from a copy of the
policy whose weights are multiplied by 1 + NOISE times normal noise, always the same noise, as the engine's are with
--math.engine_noise. The result is the accuracy of the policy itself on held-out problems.

--student: the directory of a student (world/ and sft/), as `openrlhf-math demo` and `experiments` leave it.
"""

import argparse
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import openrlhf_math  # noqa: F401, isort: skip, patches OpenRLHF before it is imported
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_math.grpo.advantages import grpo
from openrlhf_math.grpo.objective import Objective
from openrlhf_math.grpo.update.engine_gap import WeightTally
from openrlhf_math.grpo.update.loss import OnPolicyLoss, corrected_share, policy_loss
from openrlhf_math.grpo.update.rollout_correction import PRESETS

PROMPTS, SAMPLES, MOST_TOKENS, RATE = 16, 8, 128, 2e-4
ANSWER = re.compile(r"\\boxed\{([^{}]*)\}\.?$")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=["exact", "off", "tis", "mis"])
    parser.add_argument("--heldout", type=int, default=300, help="problems, two completions each")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, a run each; those there are not redone")
    return parser.parse_args()


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def noisy(policy: torch.nn.Module, engine: torch.nn.Module, noise: float, seed: int) -> None:
    """Give the engine the policy's weights, off by the same noise every time."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for own, its in zip(policy.parameters(), engine.parameters(), strict=True):
            its.copy_(own * (1 + noise * torch.randn(own.shape, generator=generator)))


@torch.no_grad()
def sample(model, tokenizer, problems: list[dict], samples: int):
    """Sequences with left-padded prompts, the mask of completion tokens up to the end, and the graded rewards."""
    chats = [[{"role": "user", "content": row["problem"]}] for row in problems]
    prompts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    inputs = tokenizer([text for text in prompts for _ in range(samples)], return_tensors="pt", padding=True)
    width = inputs["input_ids"].shape[1]
    model.eval()
    sequences = model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True, temperature=1.0,
        top_k=0, top_p=1.0, max_new_tokens=MOST_TOKENS, use_cache=True, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    completions = sequences[:, width:]
    ended = (completions == tokenizer.eos_token_id).long().cumsum(1)
    mask = (ended == 0) | ((ended == 1) & (completions == tokenizer.eos_token_id))
    rewards = []
    for row, tokens, kept in zip([row for row in problems for _ in range(samples)], completions, mask, strict=True):
        text = tokenizer.decode(tokens[kept], skip_special_tokens=True).strip()
        found = ANSWER.search(text)
        rewards.append(0.0 if not found else 1.0 if found[1].strip() == row["answer"] else 0.2)
    attention = torch.cat([inputs["attention_mask"], mask.long()], dim=1)
    return SimpleNamespace(
        sequences=sequences, attention=attention, mask=mask, width=width, rewards=torch.tensor(rewards)
    )


def log_probs(model, rolled) -> torch.Tensor:
    """Of the completion tokens, [completions, tokens]."""
    positions = (rolled.attention.cumsum(1) - 1).clamp(min=0)
    logits = model(rolled.sequences, attention_mask=rolled.attention, position_ids=positions, use_cache=False).logits
    logits = logits[:, rolled.width - 1 : -1].float()
    tokens = rolled.sequences[:, rolled.width :]
    return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0] * rolled.mask


def loss_of(way: str):
    preset = PRESETS.get(way)
    args = SimpleNamespace(
        actor=SimpleNamespace(policy_loss_type="ppo", loss_agg_mode="seq-mean-token-mean"),
        math=SimpleNamespace(objective=Objective(rollout_correction=way if preset else "off")),
    )
    return policy_loss(
        args, token_level_loss=False, policy_loss_type="ppo",
        is_correction_level=preset.level if preset else "off", is_correction_mode=preset.mode if preset else "mask",
        is_correction_threshold=preset.threshold if preset else (0.5, 5.0),
    )  # fmt: skip


def train(student: Path, way: str, noise: float, steps: int, seed: int, heldout: int) -> dict:
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(student / "sft" / "model", padding_side="left")
    policy, engine = (
        AutoModelForCausalLM.from_pretrained(student / "sft" / "model", dtype=torch.float32) for _ in range(2)
    )
    problems = rows(student / "world" / "train.jsonl")
    order = torch.randperm(len(problems), generator=torch.Generator().manual_seed(seed)).tolist()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    inner, records = loss_of(way), []
    loss_fn = OnPolicyLoss(inner)
    for step in range(steps):
        noisy(policy, engine, 0.0 if way == "exact" else noise, seed)
        batch = [problems[number] for number in order[step * PROMPTS : (step + 1) * PROMPTS]]
        rolled = sample(engine, tokenizer, batch, SAMPLES)
        with torch.no_grad():
            reported = log_probs(engine, rolled)
        advantages = grpo(rolled.rewards.reshape(PROMPTS, SAMPLES)).reshape(-1, 1).expand(rolled.mask.shape)
        policy.train()
        now = log_probs(policy, rolled)
        loss, *_ = loss_fn(now, reported, advantages, rolled.mask.long(), rollout_log_probs=reported)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        tally, compared = WeightTally(), (now.detach(), reported, rolled.mask.long())
        tally.add(*compared, corrected_share(inner, *compared))
        metrics = tally.take(lambda each: each, lambda each: each)
        records.append({"accuracy": (rolled.rewards == 1).float().mean().item()} | metrics)
    torch.manual_seed(1000 + seed)
    tested = rows(student / "world" / "heldout.jsonl")[:heldout]
    found = [
        reward == 1
        for start in range(0, len(tested), 100)
        for reward in sample(policy, tokenizer, tested[start : start + 100], 2).rewards.tolist()
    ]
    return {"way": way, "noise": noise, "seed": seed, "steps": steps, "heldout": sum(found) / len(found),
            "records": records}  # fmt: skip


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    there = rows(args.output) if args.output.exists() else []
    done = {(one["way"], one["noise"], one["seed"], one["steps"]) for one in there}
    for seed in args.seeds:
        for way in args.ways:
            noise = 0.0 if way == "exact" else args.noise
            if (way, noise, seed, args.steps) in done:
                continue
            begun = time.time()
            found = train(args.student, way, noise, args.steps, seed, args.heldout)
            with args.output.open("a") as file:
                file.write(json.dumps(found) + "\n")
            mean = {name: sum(one[name] for one in found["records"]) / args.steps for name in found["records"][0]}
            shown = ", ".join(f"{name.removeprefix('rollout_corr/')} {value:.3f}" for name, value in mean.items())
            seconds = time.time() - begun
            print(f"seed {seed} {way:>5}: held out {found['heldout']:.3f}; {shown}; {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
