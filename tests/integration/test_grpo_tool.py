"""`grpo --math.tool python` on the real stack: Ray, vLLM, DeepSpeed and interpreters in their sandbox.

The model has learned one call and one answer, in seconds, so that it calls without a student's training.
"""

import json
import os
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world import write_products

CALL = "```python\nprint(6 * 7)\n```\n"
REPLY = "```output\n42\n```\n"
ANSWER = "The answer is \\boxed{42}."


def taught(world: Path) -> None:
    """The model of the world writes CALL behind any question, and mostly ANSWER behind REPLY."""
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    model = AutoModelForCausalLM.from_pretrained(world / "model", dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = [json.loads(line)["problem"] for line in (world / "train.jsonl").read_text().splitlines()]
    end = tokenizer.eos_token
    for step in range(60):
        batch, labels = [], []
        for number in range(8):
            question = [{"role": "user", "content": rows[(8 * step + number) % len(rows)]}]
            prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
            # Two answers, so that the completions of a group differ and teach something.
            last = ANSWER if (step + number // 2) % 2 else ANSWER.replace("42", "41")
            parts = [(prompt, False), (CALL, True), (REPLY, False), (last + end, True)]
            ids = [(token, learned) for text, learned in parts for token in tokenizer(text)["input_ids"]]
            batch.append(torch.tensor([token for token, _ in ids]))
            labels.append(torch.tensor([token if learned else -100 for token, learned in ids]))
        inputs = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
        targets = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        loss = torch.nn.functional.cross_entropy(model(inputs).logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.to(torch.bfloat16).save_pretrained(world / "model")


def orphans() -> set[str]:
    """Processes of this machine that run the sandbox and whose parent is gone: those of other tests have one."""
    found = set()
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path("/proc", process, "cmdline").read_bytes()
            parent = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"tools/sandbox" in command and parent == "1":
            found.add(process)
    return found


def test_tool_run_trains_on_model_tokens_and_leaves_no_process(tmp_path):
    world = tmp_path / "world"
    write_products(world, taught=50, train=32, heldout=4)
    rows = [json.loads(line) | {"answer": "42"} for line in (world / "train.jsonl").read_text().splitlines()]
    (world / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    taught(world)
    before = orphans()
    assert main([
        "grpo", "--actor.model_name_or_path", str(world / "model"), "--data.prompt_dataset", str(world / "train.jsonl"),
        "--data.max_samples", "8", "--math.run_dir", str(tmp_path / "run"), "--math.instruction", "",
        "--data.max_len", "160", "--rollout.max_new_tokens", "96", "--rollout.batch_size", "4",
        "--rollout.n_samples_per_prompt", "4", "--math.tool", "python", "--math.tool_calls", "2",
        "--math.tool_kernels", "3",
    ]) == 0  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    for record in records:
        assert record["tool/calls"] > 0.5 and record["tool/failed_rate"] < 0.3
        assert 0.05 < record["tool/token_share"] < 0.9 and record["tool/seconds"] > 0
        assert abs(record["policy_loss"]) < 1e-5
        assert record["logprob_gap"] < 0.05, "trainer and engine read the same tokens at the same places"
    assert sum(record["accuracy"] for record in records) > 0, "the answer comes behind the reply"
    assert sum(record["grad_norm"] for record in records) > 0
    deadline = time.monotonic() + 60
    while (left := orphans() - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left
