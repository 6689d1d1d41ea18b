"""How completions are generated beyond OpenRLHF's flags: engine arguments, stops, template variables, evaluations.

Rollouts are sampled from the policy's own distribution. Top-p, top-k, min-p or a repetition penalty would cut it, and
the trainer's log-probabilities are of all tokens. Evaluations may be sampled in any way. With `--math.overlap` engines
generate the next batch while the policy trains on this one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from openrlhf_math.data import chat_date
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.training.flag_checks import check_template_used

ENGINE_FLAG, STOP_FLAG = "--vllm.args", "--math.stop"
MODEL_FLAG = "--actor.model_name_or_path"
# Engine arguments that a flag sets, or that the engine could not do its work with.
OURS = {
    "model": MODEL_FLAG, "tokenizer": MODEL_FLAG, "tensor_parallel_size": "--vllm.tensor_parallel_size",
    "gpu_memory_utilization": "--vllm.gpu_memory_utilization", "enforce_eager": "--vllm.enforce_eager",
    "enable_prefix_caching": "--vllm.enable_prefix_caching", "enable_sleep_mode": "--vllm.enable_sleep",
    "max_model_len": "--data.max_len", "seed": "--train.seed",
    "trust_remote_code": "OPENRLHF_MATH_TRUST_REMOTE_CODE", "dtype": "", "runner": "", "convert": "",
    "skip_tokenizer_init": "", "worker_extension_cls": "", "load_format": "", "distributed_executor_backend": "",
    "weight_transfer_config": "", "logprobs_mode": "",
}  # fmt: skip
DEFAULT = {"temperature": 0.6, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
NAMES = {
    "temperature": "temperature", "top_p": "top-p", "top_k": "top-k", "min_p": "min-p",
    "repetition_penalty": "repetition penalty",
}  # fmt: skip
ALLOWED = {
    "top_p": ("more than 0 and at most 1", lambda value: 0 < value <= 1),
    "top_k": ("1 or more, or -1 for all", lambda value: value >= 1 or value == -1),
    "min_p": ("0 to 1", lambda value: 0 <= value <= 1),
}


@dataclass(frozen=True)
class Generation:
    """engine_args: by vLLM's names. template_variables: of the chat template. stop: texts that end a completion.

    evaluation: how evaluations are sampled, by the names of vLLM's SamplingParams. given: which of these are from
    flags. from_model: what the model's generation_config.json says, in the same names.
    """

    engine_args: Mapping[str, object] = field(default_factory=dict)
    template_variables: Mapping[str, object] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    evaluation: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT))
    given: tuple[str, ...] = ()
    from_model: Mapping[str, float] = field(default_factory=dict)


def read_generation(flags: dict, ours: dict) -> Generation:
    """Raises UserError for values that cannot work. Fills in `--eval.temperature`."""
    given = {"temperature": flags["eval.temperature"]}
    given |= {name: ours[f"math.eval_{name}"] for name in ALLOWED}
    given = {name: value for name, value in given.items() if value is not None}
    for name, (words, holds) in ALLOWED.items():
        if name in given and not (math.isfinite(given[name]) and holds(given[name])):
            raise UserError(f"--math.eval_{name} {given[name]:g}: give {words}")
    stop = tuple(ours["math.stop"] or ())
    if "" in stop:
        raise UserError(f"{STOP_FLAG}: an empty text would end every completion at once; leave it out")
    if stop and ours["math.tool"]:
        raise UserError(f"{STOP_FLAG}: with --math.tool the end of a call is what completions stop at; leave one out")
    if flags["train.full_determinism_enable"] and "enable_chunked_prefill" in ours["vllm.args"]:
        raise UserError(f"{ENGINE_FLAG}: --train.full_determinism_enable sets enable_chunked_prefill; leave one out")
    variables = ours["math.chat_template_kwargs"]
    check_template_used(flags, ours)
    settings = Generation(ours["vllm.args"], variables, stop, DEFAULT | given, tuple(given))
    flags["eval.temperature"] = settings.evaluation["temperature"]
    return settings


def with_model_defaults(args: GRPOArguments, recommended: Mapping[str, float]) -> None:
    """Sample evaluations as the model's generation_config.json says, where no flag says otherwise. In place.

    recommended: as `modeling.model_folder.recommended_sampling` gives it. With `--math.recipe none` OpenRLHF's defaults
    hold.
    """
    settings = args.math.generation
    found = {name: value for name, value in recommended.items() if name in DEFAULT}
    used = {} if args.math.objective.recipe == "none" else found
    evaluation = DEFAULT | used | {name: settings.evaluation[name] for name in settings.given}
    args.eval.temperature = evaluation["temperature"]
    args.math = replace(args.math, generation=replace(settings, evaluation=evaluation, from_model=found))


def sampling_words(args: GRPOArguments) -> list[str]:
    """Lines of the dry run."""
    settings = args.math.generation
    stops = f", stopped at {' or '.join(map(repr, settings.stop))}" if settings.stop else ""
    lines = [f"rollouts: temperature {args.rollout.temperature:g}, all tokens{stops}"]
    if args.eval.dataset:
        lines.append(f"evaluations: {_words(settings.evaluation)}{stops}")
    if settings.from_model:
        lines.append(
            f"the model's generation_config.json: {_words(settings.from_model)}; evaluations take it where no flag "
            "says otherwise, rollouts do not"
        )
    if settings.template_variables:
        lines.append(f"chat template: {_pairs(settings.template_variables)}")
    if args.math.chat_date:
        lines.append(chat_date.line(args.math.chat_date))
    if settings.engine_args:
        lines.append(f"vLLM's engine: {_pairs(settings.engine_args)}")
    return lines


def _pairs(given: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in given.items())


def _words(sampling: Mapping[str, float]) -> str:
    """Without what leaves the distribution as it is."""
    cuts = [name for name, value in sampling.items() if name != "temperature" and value != DEFAULT[name]]
    parts = [f"{NAMES[name]} {sampling[name]:g}" for name in ("temperature", *cuts) if name in sampling]
    return ", ".join(parts if cuts else [*parts, "all tokens"])


FLAG = "--math.overlap"
MOST = 1  # batches ahead
HELP = (
    "0: training and generation take turns; 1: while the policy trains on a batch, engines on their own devices "
    "(--no-train.colocate_all) generate the next one with the previous weights, and --math.rollout_correction is auto "
    "unless you give another; see docs/overlap.md (%(default)s)"
)
# OpenRLHF's own way to do both at once, and the flags' plain values.
ASYNCHRONOUS = {"train.async_enable": False, "train.partial_rollout_enable": False, "train.async_queue_size": 1}


def check_overlap(flags: dict, batches: int) -> None:
    """Raise UserError for flags with which training and generation cannot be at once.

    flags: by dotted name. batches: that are generated ahead.
    """
    for name, plain in ASYNCHRONOUS.items():
        if flags[name] != plain:
            raise UserError(
                f"--{name}: OpenRLHF's asynchronous trainer has no curriculum, exact resume or recovery and is not "
                f"used here; give {FLAG} 1 --no-train.colocate_all, which trains and generates at once"
            )
    if not batches:
        return
    if flags["train.colocate_all"]:
        raise UserError(
            f"{FLAG} {batches}: engines that share the policy's devices (--train.colocate_all) cannot generate while "
            "it trains; give --no-train.colocate_all, and with --vllm.num_engines how many they are"
        )
