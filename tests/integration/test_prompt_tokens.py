"""Without a chat template engine, trainer and evaluation see the tokens that are worked out by hand, BOS first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from public_tokenizers import llama3
from transformers import LlamaConfig, LlamaForCausalLM

from openrlhf_math.data.problems import Problem
from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.evaluate import tokenized
from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.rewards import RewardConfig

TEMPLATE = "Q: {}\nA (in \\boxed{}):"
PROBLEMS = [f"<image>What is {n} + {n}? {{}}" for n in range(8)]
AGENT = """
import json
from openrlhf_math.grpo.executor import AgentExecutor as Ours


class AgentExecutor(Ours):
    async def execute_group(self, prompt, label, params, max_length, tokenizer, engine, samples):
        class Recorded:
            async def generate(self, ids, params):
                output = await engine.generate(ids, params)
                self.prompt = list(output.prompt_token_ids)
                return output

        recorded = Recorded()
        group = await super().execute_group(prompt, label, params, max_length, tokenizer, recorded, samples)
        with open({path!r}, "a") as file:
            for rollout in group:
                start = rollout["action_ranges"][0][0]
                line = {{"engine": recorded.prompt, "trainer": rollout["observation_tokens"][:start]}}
                file.write(json.dumps(line) + chr(10))
        return group
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Path]:
    """The directory of a model whose tokenizer has a first token, and that of a run of one step."""
    folder = tmp_path_factory.mktemp("prompts")
    model = folder / "model"
    layout = llama3()
    layout.tokenizer.chat_template = None
    layout.tokenizer.save_pretrained(model)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=264, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=256, eos_token_id=260,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(model)
    data, agent = folder / "data.jsonl", folder / "agent.py"
    data.write_text("".join(json.dumps({"problem": text, "answer": "2"}) + "\n" for text in PROBLEMS))
    agent.write_text(AGENT.format(path=str(folder / "seen.jsonl")))
    command = [
        sys.executable, "-m", "openrlhf_math", "grpo", "--actor.model_name_or_path", model, "--data.prompt_dataset",
        data, "--no-data.apply_chat_template", "--data.input_template", TEMPLATE, "--math.instruction", "",
        "--train.agent_func_path", agent, "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "4",
        "--rollout.max_new_tokens", "8", "--data.max_len", "128", "--actor.entropy_coef", "1e-4", "--ckpt.save_steps",
        "-1", "--math.run_dir", folder / "run",
    ]  # fmt: skip
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return folder, model


def by_hand() -> set[tuple[int, ...]]:
    texts = [f"Q: {problem}\nA (in \\boxed{{}}):" for problem in PROBLEMS]
    return {tuple(llama3().ids(text, first=True)) for text in texts}


def test_engine_and_trainer_tokens_match_handwritten_ones(run):
    folder, _ = run
    seen = [json.loads(line) for line in (folder / "seen.jsonl").read_text().splitlines()]
    assert len(seen) == 32 and all(one["engine"] == one["trainer"] for one in seen)
    assert {tuple(one["engine"]) for one in seen} == by_hand()


def test_trainer_uses_the_handwritten_tokens(run):
    folder, _ = run
    (step,) = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 0 < step["logprob_gap"] < 0.01  # of bfloat16; with a token missing in front it is much larger


def test_evaluation_uses_the_same_tokens(run):
    folder, model = run
    settings = EvalSettings(
        str(model), folder / "eval", 0, "plain", "", "cpu", 1, None, False, RewardConfig(), input_template=TEMPLATE
    )
    questions = [Question(Problem(text, "2", "set", 1)) for text in PROBLEMS]
    assert set(map(tuple, tokenized(ProblemSet("set", questions, Sampling()), settings))) == by_hand()


def test_run_records_what_the_user_asked_for(run):
    folder, _ = run
    data = json.loads((folder / "run" / "config.json").read_text())["data"]
    assert data["apply_chat_template"] is False and data["input_template"] == TEMPLATE
