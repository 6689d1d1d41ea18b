"""The product's sample generator over engines that answer from a table: no Ray, no vLLM."""

from types import SimpleNamespace
from unittest.mock import MagicMock

from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

from openrlhf_math.grpo.faults import engine_recovery
from openrlhf_math.grpo.rollout.samples_generator import MathSamplesGenerator


def response(prompt: str, reward: float, tokens: int = 3, truncated: bool = False, **more) -> dict:
    """As an executor's `execute` gives it: two tokens of prompt, then the completion."""
    return {
        "prompt": prompt, "label": "", "reward": reward, "scores": reward, "truncated": truncated, "extra_logs": {},
        "observation_tokens": [1, 2] + [3] * tokens, "action_ranges": [(2, 2 + tokens)], "rollout_log_probs": None,
    } | more  # fmt: skip


class Ray:
    """References are the answers themselves."""

    def wait(self, references, **_):
        return references[:1], references[1:]

    def get(self, reference):
        return reference


def generator(args: SimpleNamespace, answers: dict[str, list[dict]], monkeypatch) -> MathSamplesGenerator:
    """Asks for the prompts of `answers` in their order. answers: of each prompt, its group of responses."""
    collaborators = ("phases", "problems", "watchdog", "ungraded", "engines", "show")
    made = MathSamplesGenerator(
        SimpleNamespace(args=args), Prompts(answers), None, [], **{name: MagicMock() for name in collaborators}
    )
    made.problems.end_step.return_value = ({}, {})
    monkeypatch.setattr(engine_recovery, "Answers", lambda *_: Ray())
    monkeypatch.setattr(
        SamplesGenerator, "_dispatch_prompts_to_vllm",
        lambda self, prompts, *_, **__: [answers[prompt] for prompt in prompts],
    )  # fmt: skip
    monkeypatch.setattr(
        engine_recovery.RecoveringGenerator, "_dispatch_prompts_to_vllm", SamplesGenerator._dispatch_prompts_to_vllm
    )
    return made


class Prompts:
    """OpenRLHF's data loader of prompts."""

    def __init__(self, prompts) -> None:
        self.dataset = list(prompts)

    def __iter__(self):
        return iter([("", [prompt], [""], [None]) for prompt in self.dataset])

    def __len__(self) -> int:
        return len(self.dataset)
