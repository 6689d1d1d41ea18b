"""What the trainer keeps of the curriculum: whose rollout is whose, the sampler, and what a step tells of both."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from openrlhf_math.grpo.curriculum_settings import UNIFORM
from openrlhf_math.grpo.problems.difficulty import of_run, rows_of_run
from openrlhf_math.grpo.problems.group_metrics import Strata, group_metrics
from openrlhf_math.grpo.problems.prompt_sampler import CurriculumSampler

Outcomes = dict[int, tuple[int, int]]  # problem -> correct completions, all completions


class ProblemOrder:
    """The problems of a run, in OpenRLHF's order, with what their rollouts came to."""

    def __init__(self, args: SimpleNamespace, prompts: list[str]) -> None:
        """prompts: as the engine sees them. Raises ValueError if the run's files hold others."""
        self.name = args.math.curriculum.name
        self.sampler = CurriculumSampler(args.math.curriculum, *of_run(args, len(prompts)), args.train.seed)
        sources = {row[args.data.input_key]: str(row["datasource"]) for row in rows_of_run(args, len(prompts))}
        self.strata = Strata([sources[prompt] for prompt in prompts], self.sampler.difficulty)
        self._problems: dict[str, list[int]] = {}  # the same text may be in several rows
        for number, prompt in enumerate(prompts):
            self._problems.setdefault(prompt, []).append(number)
        self._outcomes: dict[int, list[bool]] = {}

    def put_into(self, dataloader: Any, strategy: Any) -> Any:
        """OpenRLHF's data loader in this order: under `uniform` the loader itself, with its own order."""
        if self.name == UNIFORM:
            return dataloader
        dataset = dataloader.dataset
        return strategy.setup_dataloader(dataset, 1, True, False, dataset.collate_fn, sampler=self.sampler)

    def note(self, prompt: str, correct: bool) -> None:
        """One graded completion, whether dynamic sampling keeps its group or not."""
        for problem in self._problems.get(prompt, ()):
            self._outcomes.setdefault(problem, []).append(correct)

    def take_noted(self) -> dict[int, list[bool]]:
        """By problem, what was noted since the last call."""
        noted, self._outcomes = self._outcomes, {}
        return noted

    def add(self, noted: dict[int, list[bool]]) -> None:
        """Note again what was taken."""
        for problem, correct in noted.items():
            self._outcomes.setdefault(problem, []).extend(correct)

    def end_step(self) -> tuple[dict, dict[str, float]]:
        """What was drawn since the last step, as a record of problems.jsonl, and the step's metrics."""
        outcomes = {problem: (sum(all_), len(all_)) for problem, all_ in sorted(self.take_noted().items())}
        if not outcomes and self.name != UNIFORM:
            raise ValueError(
                f"--math.curriculum {self.name}: the agent gives back no prompt of the run's problems, so nothing can "
                "be learned of them; let its rollouts have 'prompt' as it came"
            )
        metrics = batch_metrics(self.sampler, outcomes) | group_metrics(outcomes) | self.strata.accuracies(outcomes)
        self.sampler.observe(outcomes)
        correct, attempts = (list(counts) for counts in zip(*outcomes.values(), strict=True)) if outcomes else ([], [])
        return {"problems": list(outcomes), "correct": correct, "attempts": attempts}, metrics


def batch_metrics(sampler: CurriculumSampler, outcomes: Outcomes) -> dict[str, float]:
    """Of the groups that were generated: how hard, and how many could teach.

    `mixed_rate`: share with some completions correct and some not; dynamic sampling's rejects count as well.
    `expected_pass_rate`, before they were generated, is what the curriculum went by. `seen_rate`: share of all problems
    that were drawn before.
    """
    if not outcomes:
        return {}
    drawn = list(outcomes)
    mixed = [0 < correct < attempts for correct, attempts in outcomes.values()]
    metrics = {"curriculum/mixed_rate": np.mean(mixed)}
    if sampler.settings.name != UNIFORM:
        metrics["curriculum/seen_rate"] = np.mean(sampler.seen > 0)
        metrics["curriculum/expected_pass_rate"] = sampler.pass_rates()[drawn].mean()
    difficulty = sampler.difficulty[drawn]
    if not np.isnan(difficulty).all():
        metrics["curriculum/difficulty_mean"] = np.nanmean(difficulty)
        for percent in (10, 50, 90):
            metrics[f"curriculum/difficulty_p{percent}"] = np.nanpercentile(difficulty, percent)
    return {name: float(value) for name, value in metrics.items()}
