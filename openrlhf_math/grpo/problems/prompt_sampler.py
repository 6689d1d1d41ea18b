"""The order of prompts under a curriculum, as the sampler of OpenRLHF's stateful data loader."""

from collections import deque
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch.utils.data import Sampler

from openrlhf_math.errors import UserError
from openrlhf_math.grpo.curriculum import Known, drawn_order, find_curriculum
from openrlhf_math.grpo.curriculum_settings import CurriculumSettings
from openrlhf_math.grpo.problems.pass_rates import PassRates


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
        """Of the next batch, float64 [problems]. Raises ValueError if the curriculum's cannot be drawn by."""
        known = Known(self.step, self.difficulty, self.pass_rates(), self.seen)
        weights = np.asarray(self.choose(known, self.settings), dtype=np.float64)
        if weights.shape != self.difficulty.shape:
            raise ValueError(f"--math.curriculum {self.settings.name} gives weights {weights.shape}, not {len(self)}")
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError(
                f"--math.curriculum {self.settings.name} gives weights from {weights.min()} to {weights.max()} in step "
                f"{self.step + 1}; they must be finite, not negative, and not all 0"
            )
        return weights

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
