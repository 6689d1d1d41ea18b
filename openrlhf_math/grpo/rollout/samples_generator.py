"""Rollouts of a batch: OpenRLHF's sample generator, with whole batches, determinism, recovery and filtering.

The engines are asked for a batch, and its answers are taken later, with other work in between. A batch is whole:
prompts that cannot fill one are not generated for, and counted.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from openrlhf.trainer.ppo_utils import samples_generator
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from torch.utils.data import DataLoader

from openrlhf_math.arguments import with_values
from openrlhf_math.colocation.phases import Phases
from openrlhf_math.colocation.strategy import MathStrategy
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.faults.engine_recovery import EngineRecovery, RecoveringGenerator
from openrlhf_math.grpo.faults.watchdog import Watchdog
from openrlhf_math.grpo.metrics import Display
from openrlhf_math.grpo.problems.completion_limit import CompletionLimit, as_wrong
from openrlhf_math.grpo.problems.problem_order import ProblemOrder
from openrlhf_math.grpo.rollout.batches import Batch, from_state, to_state
from openrlhf_math.grpo.rollout.determinism import DeterministicSamples
from openrlhf_math.grpo.rollout.dynamic_filtering import FilteringGenerator
from openrlhf_math.grpo.rollout.kept_rollouts import Graded
from openrlhf_math.grpo.rollout.replay import response_of
from openrlhf_math.grpo.rollout.ungraded import Ungraded
from openrlhf_math.patches.patch import substituted
from openrlhf_math.runs.rollouts import read_step

collect = samples_generator._collect_prompt_batch


class WholeBatches(SamplesGenerator):
    """OpenRLHF's, which would train an episode's last prompts in a smaller batch, with a share of the step size
    that the schedule and gradient accumulation are not made for.

    left_out: prompts at the end of the episode that fill no batch.
    """

    left_out = 0
    evaluating = False

    def generate_samples(self, **generate_kwargs: Any) -> tuple[list, float | None, int, bool]:
        """As OpenRLHF's, but the samples are a whole batch or none."""
        samples, pass_rate, consumed, exhausted = super().generate_samples(**generate_kwargs)
        group_size = self.args.rollout.n_samples_per_prompt
        if len(samples) < self.args.rollout.batch_size * group_size:
            self.left_out += consumed  # dynamic filtering found too few groups among them
            samples = []
        # OpenRLHF divides completions by prompts
        return samples, pass_rate and pass_rate / group_size, consumed, exhausted

    def _generate_vllm(self, *args: Any, **kwargs: Any) -> tuple:
        with substituted(samples_generator, _collect_prompt_batch=self._collect):
            return super()._generate_vllm(*args, **kwargs)

    def _collect(self, dataloader_iter: Iterator, count: int) -> tuple[list, list, list, bool]:
        """`count` prompts or, of the training set, none."""
        prompts, labels, images, exhausted = collect(dataloader_iter, count)
        if len(prompts) == count or self.evaluating:
            return prompts, labels, images, exhausted
        self.left_out += len(prompts)
        return [], [], [], True

    def take_left_out(self) -> int:
        """Of the episode that ends."""
        count, self.left_out = self.left_out, 0
        return count


class AskedAhead(SamplesGenerator):
    """OpenRLHF's, whose first questions of a batch may be asked before it is called for.

    OpenRLHF draws prompts, asks the engines for them, and waits. Here the first two may have been done: then they are
    not done again. What dynamic sampling asks besides is asked while OpenRLHF waits, as ever.
    """

    _prompts: tuple | None = None  # as `_collect` gives them
    _references: list | None = None  # to the answers

    def ask(self, prompts: Iterator, **generate_kwargs: Any) -> bool:
        """Ask for the next batch; the engines begin at once. Returns whether there are prompts for one."""
        self._begin()
        drawn = self._collect(prompts, self.args.rollout.batch_size)
        texts, labels, images, _ = drawn
        if texts:
            self._references = self._dispatch_prompts_to_vllm(texts, labels, images=images, **generate_kwargs)
            self._before_wait(self._references)
        self._prompts = drawn
        return bool(texts)

    @property
    def is_asked(self) -> bool:
        return self._prompts is not None

    def _generate_vllm(self, *args: Any, **kwargs: Any) -> tuple:
        if not self.is_asked:
            self._begin()
        return super()._generate_vllm(*args, **kwargs)

    def _collect(self, dataloader_iter: Iterator, count: int) -> tuple:
        drawn, self._prompts = self._prompts, None
        return drawn or super()._collect(dataloader_iter, count)

    def _dispatch_prompts_to_vllm(self, *args: Any, **kwargs: Any) -> list:
        references, self._references = self._references, None
        return references or super()._dispatch_prompts_to_vllm(*args, **kwargs)


class MathSamplesGenerator(AskedAhead, WholeBatches, DeterministicSamples, RecoveringGenerator, FilteringGenerator):
    """engines, phases, problems, ungraded, watchdog, show: the trainer's.

    before_first: called once, before the first batch, in a run that resumes. step: batches that were handed out. taken:
    the last of them. limit: of the next batch's completions.

    With `--math.overlap` the engines are asked for the next batch when one is handed out, and `complete` takes what
    they wrote before their weights change. What a batch depends on besides weights is known by then: the outcomes of
    those before it, for the curriculum, and how many of their completions were cut off, for the limit.
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
        ungraded: Ungraded,
        watchdog: Watchdog,
        show: Display,
    ) -> None:
        # Engines have their own tokenizer. To send ours with every prompt costs more than the answer.
        super().__init__(strategy, prompts_dataloader, eval_dataloader, None, vllm_engines)
        self.args = left_to_phases(self.args, "vllm")
        self.engines, self.phases, self.problems = engines, phases, problems
        self.ungraded, self.watchdog, self.show = ungraded, watchdog, show
        self.before_first: Callable[[], None] | None = None
        self.limit = CompletionLimit(self.args.math.completion_limit)
        self.taken: Batch  # of the step under way, from `generate_samples` on
        self._complete: deque[Batch] = deque()  # they wait for their step
        self._episode = 0  # that prompts are drawn from
        self._ungraded: list[dict] = []  # of batches that had too few groups
        self._spans: list[tuple[float, float]] = []
        self._dataloader_iter: Iterator | None = None
        self._sample_buffer: list[Experience] = []
        self._evaluated: list = []

    def generate_samples(self, **generate_kwargs: Any) -> tuple[list[Experience], float | None, int, bool]:
        """As OpenRLHF's: samples of the next step, or none at the end of an episode."""
        before_first, self.before_first = self.before_first, None
        if before_first:
            before_first()
        self._arguments = generate_kwargs
        with self.watchdog.phase("rollout", self.waits_for):
            self.taken = self._complete.popleft() if self._complete else self._finish()
            self.problems.add(self.taken.noted)
            self._ungraded += self.taken.ungraded
            if self.taken.samples:
                self._hand_out(self.taken)
        if count := self.taken.left_out:
            found = " with groups that have a gradient" if self.args.algo.dynamic_filtering_enable else ""
            self.show.say(f"end of an episode: its last {count} prompts fill no batch{found} and are left out")
        return self.taken.samples, self.taken.pass_rate, self.taken.consumed, self.taken.exhausted

    def complete(self) -> None:
        """Wait for what the engines were asked ahead, so that their weights can change."""
        with self.watchdog.phase("rollout", self.waits_for):
            while self.is_asked:
                self._complete.append(self._finish())
                if not self._complete[-1].samples:
                    self._ask_ahead()

    def state(self) -> dict | None:
        """Batches that wait for their step, for a checkpoint."""
        return to_state(self._complete) if self._complete else None

    def resume(self, step: int, episode: int, state: dict | None) -> None:
        """Resume from a checkpoint. step, episode: its own. state: of `state`."""
        self.step, self._dataloader_iter = step, iter(self.prompts_dataloader)
        self._complete = deque(from_state(state) if state else ())
        self._episode = episode + sum(batch.exhausted for batch in self._complete)

    def _hand_out(self, batch: Batch) -> None:
        batch.ungraded, self._ungraded = self._ungraded, []
        batch.drawn, batch.metrics = self.problems.end_step()
        self.step += 1
        self.limit.observe(self.step, batch.truncated())
        if self.args.math.overlap:
            self._ask_ahead()

    def _ask_ahead(self) -> None:
        """Ask for the next batch of the run, if it has one."""
        self._ready()
        while self._episode < self.args.train.num_episodes:
            self._dataloader_iter = self._dataloader_iter or iter(self.prompts_dataloader)
            if self.ask(self._dataloader_iter, **self._arguments | {"max_new_tokens": self.limit.tokens}):
                return
            self._complete.append(self._finish())  # the end of an episode

    def _finish(self) -> Batch:
        """The batch that was asked for ahead, or, where none was, one from its beginning."""
        limit = self.args.rollout.max_new_tokens = self.limit.tokens  # penalties go by it
        samples, pass_rate, consumed, exhausted = self._generated(**self._arguments | {"max_new_tokens": limit})
        self._episode += exhausted
        spans, self._spans, zero = self._spans, [], self.args.math.started_at
        return Batch(
            samples,
            pass_rate,
            consumed,
            exhausted,
            left_out=self.take_left_out() if exhausted else 0,
            limit=limit,
            noted=self.problems.take_noted(),
            ungraded=self.ungraded.take(),
            span=(min(spans)[0] - zero, max(end for _, end in spans) - zero) if spans else None,
        )

    def _generated(self, **generate_kwargs: Any) -> tuple:
        return super().generate_samples(**generate_kwargs)

    def _ready(self) -> None:
        """Engines are there, awake, and have weights."""
        self.engines.check()
        self.phases.rollout()

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
        self._ready()
        batch = super()._generate_vllm(*args, **kwargs)
        self.ungraded.end_batch(self.step)
        return batch

    def _process_response_into_experience(self, response: dict, **generate_kwargs: Any) -> Experience:
        """Of every rollout, before dynamic sampling drops its group."""
        self.ungraded.note(response)
        if not self.evaluating:
            if self.args.math.truncated == "wrong":
                response = as_wrong(response)
            self._spans += [response["span"]] if "span" in response else []
            self.problems.note(response["prompt"], is_correct(response, self.args.math.rewards.correct_reward))
        experience = super()._process_response_into_experience(response, **generate_kwargs)
        experience.graded = Graded.of(response, self.step)
        return experience


class ReplayGenerator(MathSamplesGenerator):
    """Gives stored rollouts in place of an engine's. files: one a step, in order."""

    def __init__(self, *args: Any, files: Sequence[Path], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.files = list(files)

    def _generated(self, **generate_kwargs: Any) -> tuple:
        if not self.files:
            return [], None, 0, True
        responses = [response_of(row, self.args) for row in read_step(self.files.pop(0))]
        samples = [self._process_response_into_experience(one, **generate_kwargs) for one in responses]
        return samples, None, self.args.rollout.batch_size, not self.files


def is_correct(response: dict, correct_reward: float) -> bool:
    """Whether a rollout solved its problem. A user's agent may give no more than a reward."""
    accuracy = (response.get("extra_logs") or {}).get("accuracy")
    return float(response.get("reward") or 0.0) >= correct_reward if accuracy is None else accuracy > 0


def left_to_phases(args: GRPOArguments, *sections: str) -> GRPOArguments:
    """The settings without `enable_sleep` in these sections, so that upstream moves nothing: the phases do."""
    return with_values(args, {f"{section}.enable_sleep": False for section in sections})
