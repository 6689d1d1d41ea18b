"""How a run samples: as the model's own generation config says, or under the poster's limit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import R1
from openrlhf_math.evaluation.problem_sets import ProblemSet

# The poster's AIME'24 figures are of completions of at most 5,048 tokens.
POSTER = {"max_tokens": 5048, **R1}
PROTOCOLS = ("model", "poster")


def recommended(protocol: str, model: str | None) -> dict[str, float]:
    """What a protocol sets in place of a benchmark's own defaults, by the fields of `Sampling`.

    `model`: the model's `generation_config.json`, as vLLM's server applies it, if it asks for sampling; its
    `max_new_tokens` in any case. Nothing for a model without one, and for None, a model behind an endpoint. Raises
    UserError if the file cannot be read.
    """
    if protocol == "poster":
        return POSTER
    return _of_the_model(model) if model else {}


def _of_the_model(model: str) -> dict[str, float]:
    from transformers import GenerationConfig

    try:
        config = GenerationConfig.from_pretrained(model).to_diff_dict()
    except (OSError, ValueError, TypeError) as error:
        folder = Path(model)  # of a hub model there may be none, or no network for it
        if isinstance(error, OSError) and not (folder / "generation_config.json").exists():
            return {}
        raise UserError(f"--model {model}: generation_config.json cannot be read ({error!s:.200}); fix it") from None
    found = {"max_tokens": config.get("max_new_tokens")}
    if config.get("do_sample"):
        names = ("top_p", "top_k", "min_p", "repetition_penalty")
        found |= {"temperature": config.get("temperature", 1.0), **{name: config.get(name) for name in names}}
    found = {name: value for name, value in found.items() if value is not None}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"--model {model}: generation_config.json has {name} {value!r:.60}; it must be a number")
    return found


def sampled(problems: ProblemSet, recommends: dict[str, float], flags: dict[str, float]) -> ProblemSet:
    """The set, sampled as its benchmark's defaults, a protocol and the user's flags say, each before the former.

    Greedy decoding without `--samples` makes one completion. Raises UserError for values that cannot work.
    """
    asked: dict[str, Any] = {**recommends, **flags}
    greedy = asked.get("temperature", problems.sampling.temperature) == 0
    if greedy and "samples" not in flags:
        asked["samples"] = 1
    try:
        return replace(problems, sampling=replace(problems.sampling, **asked))
    except ValueError as error:
        raise UserError(str(error)) from None
