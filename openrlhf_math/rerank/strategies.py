"""Strategies by name: each is made of how steps are searched, which those without steps ignore."""

from collections.abc import Callable

from openrlhf_math.registry import Registry
from openrlhf_math.rerank.independent import independent
from openrlhf_math.rerank.task import Strategy
from openrlhf_math.rerank.tree_search import Steps, beam_search, diverse_tree_search

STRATEGIES: Registry[Callable[[Steps], Strategy]] = Registry(
    {"independent": lambda steps: independent, "beam": beam_search, "dvts": diverse_tree_search}
)


def find_strategy(name: str) -> Callable[[Steps], Strategy]:
    """A known one, or one's own by dotted path: a function from `Steps` to a `Strategy`. Raises UserError if there is
    none."""
    return STRATEGIES.find("--strategy", name)
