"""Each step's completions, gathered in the trainer for the files of `runs.rollouts`."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped
from openrlhf.trainer.ppo_utils.experience import Experience
from torch import Tensor

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.inputs import PROBLEM
from openrlhf_math.runs.rollouts import (
    COLUMNS,
    EVALUATION,
    NOTHING,
    PART,
    TRAINING,
    Keeping,
    drop_older,
    path_of,
    write_step,
)
from openrlhf_math.seeds import derived_seed


@dataclass(frozen=True, slots=True)
class Graded:
    """What an experience of OpenRLHF's has no field for: of one completion, from the executor's answer.

    text: None where the agent gives none. weights: gradient steps that its engine's weights had.
    """

    text: str | None
    outcome: str | None
    answer: str | None
    reason: str
    by: str | None
    weights: int

    @classmethod
    def of(cls, response: dict, weights: int) -> "Graded":
        """weights: where no engine says it, of a stored response."""
        grade = response.get("grade") or {}
        return cls(
            response.get("text"), grade.get("outcome"), grade.get("answer"), grade.get("reason", ""), grade.get("by"),
            response.get("weights", weights),
        )  # fmt: skip


class KeptRollouts:
    """tokenizer: writes the text of completions of an agent that gives none. args: of the run, with its prompts."""

    def __init__(self, args: GRPOArguments, tokenizer: Tokenizer) -> None:
        self.keeping: Keeping = args.math.keep_rollouts
        self.run_dir: Path = args.math.run_dir
        self.seed, self.tokenizer = args.train.seed, tokenizer
        self.has_tool = args.math.tool is not None
        self.group_size = {TRAINING: args.rollout.n_samples_per_prompt, EVALUATION: args.eval.n_samples_per_prompt}
        self._problems = {TRAINING: _problems(args, args.data.prompt_dataset), EVALUATION: {}}
        if args.eval.dataset:
            self._problems[EVALUATION] = _problems(args, args.eval.dataset)

    def note(self, experiences: Sequence[Experience]) -> None:
        """Batches of the step with rewards and advantages, before OpenRLHF makes others of them and drops `index`."""
        numbers = torch.cat([torch.as_tensor(batch.index) for batch in experiences])
        rewards = torch.cat([batch.rewards.float() for batch in experiences])
        advantages = torch.cat([mean_advantage(batch.advantages, batch.action_mask) for batch in experiences])
        self._outcomes = tuple(
            torch.empty_like(values).index_copy(0, numbers, values) for values in (rewards, advantages)
        )

    def training(self, step: int, samples: Sequence[Experience]) -> None:
        """samples: one completion each, in the order of the rollout, of the batch that was noted."""
        if self.keeping == NOTHING:
            return
        rewards, advantages = self._outcomes
        self._write(TRAINING, step, samples, rewards.tolist(), advantages.tolist())

    def evaluation(self, step: int, samples: Sequence[Experience]) -> None:
        """samples: as an evaluation makes them; their `rewards` are accuracies."""
        if self.keeping == NOTHING:
            return
        rewards = [float(sample.info.get("reward", sample.rewards)) for sample in samples]
        self._write(EVALUATION, step, samples, rewards, [None] * len(samples))

    def _write(self, folder: str, step: int, samples: Sequence, rewards: list, advantages: list) -> None:
        size = self.group_size[folder]
        parts = [name for name in samples[0].info if name.startswith(PART)] if samples else []
        columns: dict[str, list] = {name: [] for name in (*COLUMNS, *parts)}
        for number in self._chosen(step, folder, len(samples), size):
            row = self._row(samples[number], self._problems[folder])
            row |= {"step": step, "group": number // size, "sample": number % size}
            row |= {"reward": rewards[number], "advantage": advantages[number]}
            row |= {name: float(samples[number].info[name]) for name in parts}
            for name, values in columns.items():
                values.append(row[name])
        write_step(path_of(self.run_dir / folder, step), columns)
        drop_older(self.run_dir / folder, self.keeping)

    def _chosen(self, step: int, folder: str, samples: int, size: int) -> list[int]:
        """Numbers of the completions that are kept: all, or those of groups drawn by seed, step and folder."""
        groups, wanted = samples // size, self.keeping.groups
        if wanted is None or wanted >= groups:
            return list(range(samples))
        drawn = random.Random(derived_seed(f"{self.seed}\0{folder}\0{step}")).sample(range(groups), wanted)
        return [group * size + number for group in sorted(drawn) for number in range(size)]

    def _row(self, sample: Experience, problems: dict) -> dict:
        graded: Graded = sample.graded
        tokens, taken = sample.sequences[0].int().numpy(), sample.action_mask[0].bool()
        sampled = taken.nonzero().flatten()
        start = int(sampled[0]) + 1 if len(sampled) else len(tokens)  # the mask's column t is of token t + 1
        ranges = _ranges(taken[start - 1 :].numpy())
        log_probs = None if sample.rollout_log_probs is None else sample.rollout_log_probs[0]
        mean = None if log_probs is None or not len(sampled) else log_probs[taken].double().mean().item()
        index, problem, source = problems.get(sample.prompts[0], (None, None, None))
        text = self.tokenizer.decode(tokens[start:], skip_special_tokens=True) if graded.text is None else graded.text
        return {
            "problem_index": index,
            "source": source,
            "problem": problem,
            "gold": sample.labels[0],
            "prompt": sample.prompts[0],
            "response": text,
            "transcript": self.tokenizer.decode(tokens[start:], skip_special_tokens=False) if self.has_tool else None,
            "tokens": len(tokens) - start,
            "truncated": bool(sample.truncated),
            "outcome": graded.outcome,
            "graded_by": graded.by,
            "extracted": graded.answer,
            "reason": graded.reason,
            "mean_log_prob": mean,
            "weights": graded.weights,
            "prompt_tokens": tokens[:start],
            "response_tokens": tokens[start:],
            "actions": ranges,
            "log_probs": None if log_probs is None else log_probs[start - 1 :].float().numpy(),
        }


def mean_advantage(
    advantages: Float[Tensor, "batch actions"], action_mask: Shaped[Tensor, "batch actions"]
) -> Float32[Tensor, " batch"]:
    """The mean over the tokens that are trained on, 0 where there are none."""
    taken = action_mask.double()
    return ((advantages.double() * taken).sum(dim=1) / taken.sum(dim=1).clamp(min=1)).float()


def _ranges(taken: Bool[np.ndarray, " tokens"]) -> list[list[int]]:
    """[start, stop) of the runs of True in a mask."""
    edges = np.flatnonzero(np.diff(taken.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).tolist()


def _problems(args: GRPOArguments, paths: str) -> dict[str, tuple[int, str, str]]:
    """By prompt: the number of the problem, its text, and where it is from. paths: files of `inputs.write_prompts`."""
    found: dict[str, tuple[int, str, str]] = {}
    number = 0
    for path in paths.split(","):
        with Path(path).open() as file:
            for line in file:
                row = json.loads(line)
                found.setdefault(row[args.data.input_key], (number, row[PROBLEM], str(row["datasource"])))
                number += 1
    return found
