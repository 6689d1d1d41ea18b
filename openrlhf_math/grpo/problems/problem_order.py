"""The order of prompts under a curriculum, and what the trainer keeps for it: whose rollout is whose, pass rates.

The order is a sampler of OpenRLHF's stateful data loader. A pass rate is a running estimate of how often the policy
solves a problem, from the rollouts of this run.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.curriculum import Known, drawn_order, find_curriculum, weights_of
from openrlhf_math.grpo.curriculum_settings import UNIFORM, CurriculumSettings
from openrlhf_math.grpo.metrics import Strata, group_metrics
from openrlhf_math.grpo.problems.difficulty import of_run, rows_of_run


class CurriculumSampler(Sampler[int]):
    """Draws problems by the curriculum's weights; an episode has as many draws as there are problems.

    The weights are taken once a step. Within a step no problem comes twice before all have come, however many draws
    dynamic sampling wants. All that the order depends on is in `state_dict`, which the data loader keeps with its own.
    """

    def __init__(self, settings: CurriculumSettings, difficulty: np.ndarray, base: np.ndarray, seed: int) -> None:
        """difficulty; base: pass rates of the base model: float64 [problems], NaN where unknown."""
        self.settings, self.difficulty, self.seed = settings, difficulty, seed
        self.choose = find_curriculum(settings.name)
        self.rates = PassRates(base, difficulty, settings.half_life)
        self.base = base
        self.seen = np.zeros(len(difficulty), dtype=np.int64)
        self.step = self.drawn = self.rounds = 0  # drawn: in this episode; rounds: through all problems in this step
        self._coming: deque[int] = deque()

    def __len__(self) -> int:
        return len(self.difficulty)

    def __iter__(self) -> Iterator[int]:
        while self.drawn < len(self):
            if not self._coming:
                generator = np.random.default_rng([self.seed, self.step, self.rounds])
                self._coming.extend(drawn_order(self.weights(), generator))
                self.rounds += 1
            self.drawn += 1
            yield self._coming.popleft()
        self.drawn = 0

    def pass_rates(self) -> np.ndarray:
        """What the curriculum goes by, float64 [problems]."""
        if self.settings.learn:
            return self.rates.estimate()
        return np.where(np.isnan(self.base), 0.5, self.base)

    def weights(self) -> np.ndarray:
        """Of the next batch, float64 [problems]. Raises UserError if the curriculum's cannot be drawn by."""
        known = Known(self.step, self.difficulty, self.pass_rates(), self.seen)
        return weights_of(self.choose, known, self.settings)

    def observe(self, outcomes: Mapping[int, tuple[int, int]]) -> None:
        """Ends a step. outcomes: correct completions and all, by problem, of every group that was generated for it."""
        self.rates.observe(outcomes)
        self.seen[list(outcomes)] += 1
        self.step += 1
        self.rounds = 0
        self._coming.clear()

    def state_dict(self) -> dict:
        arrays = {"correct": self.rates.correct, "attempts": self.rates.attempts, "seen": self.seen}
        plain = {"step": self.step, "drawn": self.drawn, "rounds": self.rounds, "coming": [*map(int, self._coming)]}
        # `coming` is often empty, and an empty tensor that came through Ray without a copy may seem to share the memory
        # of the one behind it, which PyTorch refuses to save.
        return {name: torch.tensor(array) for name, array in arrays.items()} | plain

    def load_state_dict(self, state: dict) -> None:
        """Raises UserError if the state is of another problem set."""
        if len(state["seen"]) != len(self):
            raise UserError(
                f"--ckpt.load_enable: the checkpoint's curriculum is of {len(state['seen'])} problems, --data."
                f"prompt_dataset has {len(self)}; resume with the problems of the run"
            )
        self.rates.correct, self.rates.attempts = state["correct"].numpy().copy(), state["attempts"].numpy().copy()
        self.seen = state["seen"].numpy().copy()
        self.step, self.drawn, self.rounds = state["step"], state["drawn"], state["rounds"]
        self._coming = deque(map(int, state["coming"]))


MAX_CLASSES = 20
# A class's prior, and a class as its problems' prior, weigh as much as so many completions.
CLASS_PRIOR, PROBLEM_PRIOR = 8.0, 8.0
UNKNOWN = 0.5


def classes_of(values: np.ndarray) -> np.ndarray:
    """Problems that are about equally hard, int64 [problems]: equal values, or quantiles where there are many.

    values: float64 [problems], NaN where unknown, which is a class by itself.
    """
    known = values[~np.isnan(values)]
    if len(np.unique(known)) > MAX_CLASSES:
        edges = np.quantile(known, np.linspace(0, 1, MAX_CLASSES + 1)[1:-1])
        values = np.where(np.isnan(values), np.nan, np.searchsorted(edges, values))
    return np.unique(values, return_inverse=True)[1].reshape(-1)


class PassRates:
    """Counts of correct and of all completions by problem, old ones fading, and what they say together.

    With c_i correct of n_i for problem i, C and N the sums over its class and b the mean of the base model's pass rates
    there (1/2 if unknown), the estimate is the class's, drawn to the problem's own:

        m = (C + k b) / (N + k),   p_i = (c_i + k m) / (n_i + k),   k = 8

    Most problems are met once an epoch at the most, so a problem is judged by its like until it has been seen itself.
    Counts decay by half every `half_life` steps, since the policy changes.
    """

    def __init__(self, base: np.ndarray, difficulty: np.ndarray, half_life: float) -> None:
        """base: pass rates of the base model; difficulty: where those are unknown. Both float64 [problems], NaN."""
        self.classes = classes_of(difficulty if np.isnan(base).all() else base)
        size = np.bincount(self.classes)
        sums = np.bincount(self.classes, np.where(np.isnan(base), UNKNOWN, base))
        self.base = sums / size  # by class
        self.fade = 0.5 ** (1 / half_life)
        self.correct, self.attempts = np.zeros(len(base)), np.zeros(len(base))

    def observe(self, outcomes: Mapping[int, tuple[int, int]]) -> None:
        """A step's outcomes: correct completions and all, by problem."""
        self.correct *= self.fade
        self.attempts *= self.fade
        for problem, (correct, attempts) in sorted(outcomes.items()):
            self.correct[problem] += correct
            self.attempts[problem] += attempts

    def estimate(self) -> np.ndarray:
        """float64 [problems], 0 to 1."""
        correct, attempts = np.bincount(self.classes, self.correct), np.bincount(self.classes, self.attempts)
        of_class = (correct + CLASS_PRIOR * self.base) / (attempts + CLASS_PRIOR)
        return (self.correct + PROBLEM_PRIOR * of_class[self.classes]) / (self.attempts + PROBLEM_PRIOR)


Outcomes = dict[int, tuple[int, int]]  # problem -> correct completions, all completions


class ProblemOrder:
    """The problems of a run, in OpenRLHF's order, with what their rollouts came to."""

    def __init__(self, args: GRPOArguments, prompts: list[str]) -> None:
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
            raise UserError(
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
