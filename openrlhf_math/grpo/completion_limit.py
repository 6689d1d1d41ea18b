"""How many tokens a completion may have: fixed, in stages by step, or growing where too many are cut off."""

from collections import deque

from openrlhf_math.grpo.limit_settings import LimitSettings
from openrlhf_math.grpo.stages import value_at


class CompletionLimit:
    """The limit of the step that comes. `observe` after every step; the state belongs in the checkpoint."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self.tokens = value_at(settings.stages, 0) if settings.stages else settings.start
        self._rates: deque[float] = deque(maxlen=settings.grow_after)

    def observe(self, steps_done: int, truncation_rate: float) -> None:
        """truncation_rate: share of the last step's completions that were cut off."""
        settings = self.settings
        if settings.stages:
            self.tokens = value_at(settings.stages, steps_done)
        elif settings.grow_at is not None:
            self._rates.append(truncation_rate)
            full = len(self._rates) == settings.grow_after
            if full and sum(self._rates) / len(self._rates) > settings.grow_at and self.tokens < settings.grow_to:
                self.tokens = min(max(int(self.tokens * settings.grow_by), self.tokens + 1), settings.grow_to)
                self._rates.clear()

    def state_dict(self) -> dict:
        return {"tokens": self.tokens, "rates": list(self._rates)}

    def restore(self, steps_done: int, state: dict | None) -> None:
        """Go on from a checkpoint after `steps_done` steps. Flags that changed since then hold.

        state: of `state_dict`; None from a checkpoint that has none.
        """
        if self.settings.stages:
            self.tokens = value_at(self.settings.stages, steps_done)
        elif self.settings.grow_at is not None and state:
            self.tokens = min(max(state["tokens"] or 0, self.tokens), self.settings.grow_to)
            self._rates.extend(state["rates"])
