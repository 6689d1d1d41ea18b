"""The engines are asked for a batch, and its answers are taken later, with other work in between."""

from collections.abc import Iterator
from typing import Any

from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator


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
