"""How a run samples: as the model's own generation config says, or under the poster's limit."""

from dataclasses import replace

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.benchmarks import R1
from openrlhf_math.evaluation.problem_sets import ProblemSet
from openrlhf_math.modeling.model_folder import recommended_sampling

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
    return recommended_sampling("--model", model) if model else {}


def sampled(problems: ProblemSet, recommends: dict[str, float], flags: dict[str, float]) -> ProblemSet:
    """The set, sampled as its benchmark's defaults, a protocol and the user's flags say, each before the former.

    Greedy decoding without `--samples` makes one completion. Raises UserError for values that cannot work.
    """
    asked = recommends | flags
    greedy = asked.get("temperature", problems.sampling.temperature) == 0
    if greedy and "samples" not in flags:
        asked["samples"] = 1
    try:
        return replace(problems, sampling=replace(problems.sampling, **asked))
    except ValueError as error:
        raise UserError(str(error)) from None
