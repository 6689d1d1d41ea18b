"""Rollouts of a batch: OpenRLHF's sample generator, with whole batches, determinism, recovery and filtering."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf.trainer.ppo_utils.experience import Experience
from torch.utils.data import DataLoader

from openrlhf_math.colocation.phases import Phases
from openrlhf_math.colocation.strategy import MathStrategy
from openrlhf_math.grpo.determinism import DeterministicSamples
from openrlhf_math.grpo.display import Display
from openrlhf_math.grpo.dynamic_filtering import FilteringGenerator
from openrlhf_math.grpo.engine_recovery import EngineRecovery, RecoveringGenerator
from openrlhf_math.grpo.kept_rollouts import Graded
from openrlhf_math.grpo.problem_order import ProblemOrder
from openrlhf_math.grpo.replay import response_of
from openrlhf_math.grpo.truncation import as_wrong
from openrlhf_math.grpo.undecided import Undecided
from openrlhf_math.grpo.watchdog import Watchdog
from openrlhf_math.grpo.whole_batches import WholeBatches
from openrlhf_math.runs.rollouts import read_step


class MathSamplesGenerator(WholeBatches, DeterministicSamples, RecoveringGenerator, FilteringGenerator):
    """engines, phases, problems, undecided, watchdog, show: the trainer's.

    before_first: called once, before the first batch, in a run that resumes.
    """

    def __init__(
        self,
        strategy: MathStrategy,
        prompts_dataloader: DataLoader,
        eval_dataloader: DataLoader | None,
        vllm_engines: list,
        *,
        engines: EngineRecovery,
        phases: Phases,
        problems: ProblemOrder,
        undecided: Undecided,
        watchdog: Watchdog,
        show: Display,
    ) -> None:
        # Engines have their own tokenizer. To send ours with every prompt costs more than the answer.
        super().__init__(strategy, prompts_dataloader, eval_dataloader, None, vllm_engines)
        self.args = left_to_phases(self.args, "vllm")
        self.engines, self.phases, self.problems = engines, phases, problems
        self.undecided, self.watchdog, self.show = undecided, watchdog, show
        self.before_first: Callable[[], None] | None = None
        self._evaluated: list = []

    def generate_samples(self, **generate_kwargs: Any) -> tuple[list[Experience], float | None, int, bool]:
        before_first, self.before_first = self.before_first, None
        if before_first:
            before_first()
        with self.watchdog.phase("rollout", self.waits_for):
            samples, pass_rate, consumed, exhausted = super().generate_samples(**generate_kwargs)
        if exhausted and (count := self.take_left_out()):
            found = " with groups that teach something" if self.args.algo.dynamic_filtering_enable else ""
            self.show.say(f"end of an episode: its last {count} prompts fill no batch{found} and are left out")
        return samples, pass_rate, consumed, exhausted

    def generate_eval_samples(self, **generate_kwargs: Any) -> list[Experience]:
        """The rewards of samples are their accuracy, because upstream's pass@1 and pass@n count rewards."""
        self.evaluating = True
        try:
            samples = super().generate_eval_samples(**generate_kwargs)
        finally:
            self.evaluating = False
        for sample in samples:
            sample.rewards = sample.info.get("accuracy", sample.rewards)
        self._evaluated = samples
        return samples

    def take_evaluated(self) -> list:
        """The samples of the last evaluation."""
        samples, self._evaluated = self._evaluated, []
        return samples

    def _generate_vllm(self, *args: Any, **kwargs: Any) -> tuple:
        """For training and evaluation alike, and only when samples left from an earlier call do not do."""
        self.engines.check()
        self.phases.rollout()
        batch = super()._generate_vllm(*args, **kwargs)
        self.undecided.end_batch(self.step)
        return batch

    def _process_response_into_experience(self, response: dict, **generate_kwargs: Any) -> Experience:
        """Of every rollout, before dynamic sampling drops its group."""
        self.undecided.note(response)
        if not self.evaluating:
            if self.args.math.truncated == "wrong":
                response = as_wrong(response)
            self.problems.note(response["prompt"], is_correct(response, self.args.math.rewards.correct_reward))
        experience = super()._process_response_into_experience(response, **generate_kwargs)
        experience.graded = Graded.of(response, self.step)
        return experience


class ReplayGenerator(MathSamplesGenerator):
    """Gives stored rollouts in place of an engine's. files: one a step, in order."""

    def __init__(self, *args: Any, files: Sequence[Path], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.files = list(files)

    def generate_samples(self, **generate_kwargs: Any) -> tuple[list[Experience], float | None, int, bool]:
        if not self.files:
            return [], None, 0, True
        responses = [response_of(row, self.args) for row in read_step(self.files.pop(0))]
        samples = [self._process_response_into_experience(one, **generate_kwargs) for one in responses]
        return samples, None, self.args.rollout.batch_size, not self.files


def is_correct(response: dict, correct_reward: float) -> bool:
    """Whether a rollout solved its problem. A user's agent may give no more than a reward."""
    accuracy = (response.get("extra_logs") or {}).get("accuracy")
    return float(response.get("reward") or 0.0) >= correct_reward if accuracy is None else accuracy > 0


def left_to_phases(args: SimpleNamespace, *sections: str) -> SimpleNamespace:
    """The settings without `enable_sleep` in these sections, so that upstream moves nothing: the phases do."""
    awake = {name: SimpleNamespace(**{**vars(getattr(args, name)), "enable_sleep": False}) for name in sections}
    return SimpleNamespace(**{**vars(args), **awake})
