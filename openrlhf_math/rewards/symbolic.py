r"""Step 3b, inside a worker: math-verify on one gold and one answer. No time limit here; the pool has one."""

import logging
from functools import lru_cache

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of the missing time limit, which is ours

from math_verify import LatexExtractionConfig, parse, verify  # noqa: E402

_CONFIG = (LatexExtractionConfig(boxed_match_priority=0),)


def equivalent(gold: str, answer: str) -> bool:
    """Whether two tidied LaTeX texts denote the same mathematical object. May take for ever, or all memory."""
    return verify(
        list(_parse_gold(gold)),
        _parse(answer),
        timeout_seconds=None,
        allow_set_relation_comp=True,
        raise_on_error=True,
    )


def _parse(text: str) -> list:
    return parse(r"\boxed{" + text + "}", _CONFIG, parsing_timeout=None, raise_on_error=True)


@lru_cache(maxsize=1024)
def _parse_gold(text: str) -> tuple:
    return tuple(_parse(text))
