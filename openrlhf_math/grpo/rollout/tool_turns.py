"""Rollouts in which the model calls Python: its turns and the tool's, one sequence of tokens.

The token ledger has all tokens after the prompt, which of them the model sampled, and their text. What the model
sampled is never tokenised again. What the tool printed is tokenised once and appended; these tokens are not actions, so
neither the loss nor a mean over action tokens reads them.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.prompts import INSTRUCTION, Tokenizer
from openrlhf_math.errors import BadValue, UserError, in_flags
from openrlhf_math.rewards.tool_output import without_tool_output
from openrlhf_math.seeds import derived_seed
from openrlhf_math.tools.attempt import Piece, Tool, ToolAttempt
from openrlhf_math.tools.isolation import ToolFlags, find_isolation
from openrlhf_math.tools.pool import MOST_KERNELS, KernelPool, places_for, running_for
from openrlhf_math.tools.settings import ToolSettings
from openrlhf_math.tools.turns import BlockTurns

if TYPE_CHECKING:
    from vllm import CompletionOutput, SamplingParams
    from vllm.logprobs import FlatLogprobs

PYTHON = "python"
FLAGS = ToolFlags("--math.tool", "--math.tool_form", "--math.tool_isolation", "--actor.model_name_or_path")


@dataclass(frozen=True, slots=True)
class RolloutTool(ToolSettings):
    """kernels: interpreters at once for each vLLM engine, one for each completion that has begun to call; None for as
    many as half of the node's memory has room for."""

    kernels: int | None = None

    def __post_init__(self) -> None:
        ToolSettings.__post_init__(self)
        for name, most in (("kernels", MOST_KERNELS), ("calls", 1000)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise BadValue(name, value, f"1 to {most}")

    def places(self, engines: int) -> int:
        """Interpreters at once for an engine. engines: of this node, which share its memory."""
        return self.kernels or max(1, places_for(self.memory_mb) // engines)


# By flag, the field of `RolloutTool`. They have no effect without --math.tool, so they are refused then.
FIELDS = {
    "math.tool_form": "form",
    "math.tool_calls": "calls",
    "math.tool_seconds": "seconds",
    "math.tool_memory": "memory_mb",
    "math.tool_output": "output",
    "math.tool_kernels": "kernels",
    "math.tool_isolation": "isolation",
}


def tool(flags: dict, ours: dict) -> RolloutTool | None:
    """flags: OpenRLHF's, ours: --math.*. Raises UserError for values that cannot work, and for what no tool works with.

    Returns None without --math.tool.
    """
    given = {flag: ours[flag] for flag in FIELDS if ours[flag] is not None}
    if ours["math.tool"] is None:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag} {value}: add --math.tool {PYTHON}, or leave it out")
        return None
    with in_flags(**{field: f"--{flag}" for flag, field in FIELDS.items()}):
        settings = RolloutTool(**{FIELDS[flag]: value for flag, value in given.items()})
    if settings.form == "template" and not flags["data.apply_chat_template"]:
        raise UserError(
            "--no-data.apply_chat_template: --math.tool_form template is written by the chat template; take block"
        )
    _check_others(flags)
    return settings


def instruction(given: str, settings: RolloutTool | None) -> str:
    """The instruction of a run. The usual one begins with how a block is written.

    A chat template says it itself, and an instruction of the user's own stays as it is.
    """
    mentions_tool = settings is None or settings.form != "block" or given != INSTRUCTION
    return given if mentions_tool else f"{BlockTurns.instruction}\n{given}"


def _check_others(flags: dict) -> None:
    """Raise UserError for what would be wrong in silence with tokens of a tool in a completion."""
    if flags["reward.remote_url"] or flags["reward.model_name_or_path"]:
        flag = "reward.remote_url" if flags["reward.remote_url"] else "reward.model_name_or_path"
        raise UserError(
            f"--{flag}: OpenRLHF's rollouts, which it needs, run no tool; leave one out, or give a reward "
            "of your own with --train.agent_func_path"
        )
    if flags["critic.model_name_or_path"] or flags["algo.advantage.estimator"] == "gae":
        raise UserError(
            "--math.tool: a critic's advantages (gae) would count the tool's tokens as steps of the model; take "
            "another --algo.advantage.estimator"
        )
    if flags["algo.advantage.estimator"] == "reinforce" and flags["algo.advantage.gamma"] != 1:
        raise UserError(
            f"--algo.advantage.gamma {flags['algo.advantage.gamma']:g}: with --math.tool it would discount by the "
            "tool's tokens, too; leave it out"
        )
    if flags["train.full_determinism_enable"]:
        raise UserError(
            "--train.full_determinism_enable: when a tool answers depends on the moment, and what else the engine then "
            "has in its batch; leave it or --math.tool out"
        )


def isolation_of(settings: RolloutTool) -> str:
    """Of `tools.isolation.KINDS`. Raises UserError if this machine has none that keeps the model's code from it."""
    return find_isolation(settings.isolation, FLAGS)


@dataclass(slots=True)
class TokenLedger:
    """ids: all tokens behind the prompt. actions: ranges (start, stop) of those that the model sampled, in order; the
    others are a tool's. log_probs: of each token, 0 for a tool's.

    truncated: cut off at the limit. text: what a person reads of the model's tokens, for the grader. logs: numbers of
    this rollout for the metrics.
    """

    ids: list[int] = field(default_factory=list)
    actions: list[tuple[int, int]] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    truncated: bool = False
    text: str = ""
    logs: dict[str, float] = field(default_factory=dict)

    def add_turn(self, completion: "CompletionOutput") -> None:
        """Tokens of a vLLM completion, which has the log-probabilities of the sampled ones, in vLLM's flat form.

        Raises ValueError if their numbers differ.
        """
        token_ids = list(completion.token_ids)
        self.actions.append((len(self.ids), len(self.ids) + len(token_ids)))
        self.log_probs += sampled_log_probs(token_ids, completion.logprobs)
        self.ids += token_ids
        self.truncated = completion.finish_reason == "length"

    def add_reply(self, token_ids: list[int]) -> None:
        """A tool's tokens."""
        self.ids += token_ids
        self.log_probs += [0.0] * len(token_ids)

    def response(self, prompt_ids: list[int]) -> dict:
        """In the form that OpenRLHF's sample generator reads."""
        start = len(prompt_ids)
        return {
            "observation_tokens": prompt_ids + self.ids,
            "action_ranges": [(start + first, start + last) for first, last in self.actions],
            "rollout_log_probs": [0.0] * start + self.log_probs,
            "truncated": self.truncated,
        }


def answer_tokens(completion: "CompletionOutput") -> list[int]:
    """The tokens a person reads: all but the one that ended the completion."""
    token_ids = list(completion.token_ids)
    ended_by_token = completion.finish_reason == "stop" and not isinstance(completion.stop_reason, str)
    return token_ids[:-1] if ended_by_token else token_ids


def sampled_log_probs(token_ids: list[int], logprobs: "FlatLogprobs") -> list[float]:
    """Log-probability of each sampled token, from vLLM's flat list of one entry a token."""
    if len(logprobs.logprobs) != len(token_ids):
        raise ValueError(f"vLLM gave {len(logprobs.logprobs)} log-probabilities for {len(token_ids)} tokens")
    return list(logprobs.logprobs)


class ToolTurns:
    """Of a vLLM engine. tokenizer: the engine's. model: its name, for messages. engines: of this node.

    Raises UserError where the machine gives no isolation, or the tokenizer or the chat template cannot do it.
    """

    def __init__(self, settings: RolloutTool, tokenizer: Tokenizer, model: str, engines: int = 1) -> None:
        self.tokenizer = tokenizer
        self.tool = opened(settings, tokenizer, model)
        isolation, places = self.tool.pool.isolation, settings.places(engines)
        self.tool.pool = KernelPool(settings.limits(), isolation, places, running_for())

    async def write(self, ids: list[int], params: "SamplingParams", number: int, engine: Any) -> TokenLedger:
        """One completion behind the prompt `ids`, of `params.max_tokens` tokens with the tool's at the most.

        params: vLLM's, for one completion; a seed is that of the prompt. number: of the completion in its group.
        A call at the end of a turn that the model ended is not run: that end is an action, and stays one.
        """
        ledger, attempt, seed = TokenLedger(), ToolAttempt(self.tool), params.seed

        async def generate(context: list[int], most: int, stop: tuple[str, ...], request: int) -> Piece:
            ledger.add_reply(context[len(ids) + len(ledger.ids) :])
            params.stop, params.detokenize, params.max_tokens = list(stop), bool(stop), most
            params.seed = None if seed is None else derived_seed(f"{seed}\0{number}\0{request}")
            (completion,) = (await engine.generate(context, params)).outputs
            ledger.add_turn(completion)
            token_ids = list(completion.token_ids)
            stopped = completion.stop_reason if isinstance(completion.stop_reason, str) else None
            cut_off = ledger.truncated or (stopped and len(token_ids) >= most)  # no room for a reply
            finished = "length" if cut_off else "stop" if stopped else "end"
            return Piece(token_ids, self._text(context[-1:], answer_tokens(completion)), finished, stopped)

        await attempt.write(generate, ids, params.max_tokens)
        ledger.truncated = attempt.finished == "length"
        ledger.text = without_tool_output(attempt.text)
        use = attempt.use
        ledger.logs = {
            "tool/calls": float(use.calls),
            "tool/failed_calls": float(use.failed),
            "tool/seconds": use.seconds,
            "tool/tokens": float(use.tokens),
        }
        return ledger

    def _text(self, before: list[int], token_ids: list[int]) -> str:
        """Of tokens behind others: some tokenizers leave out the space in front of a text."""
        first, both = (
            self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            for ids in (before, before + token_ids)
        )
        return both[len(first) :]


def opened(settings: RolloutTool, tokenizer: Tokenizer, model: str) -> Tool:
    """Raises UserError, with the flags of `grpo`, as `Tool` does."""
    return Tool(settings, tokenizer, model, FLAGS)


def tools_of(settings: RolloutTool | None, tokenizer: Tokenizer, model: str) -> list[dict] | None:
    """What the chat template describes to the model. Raises UserError as `opened`, before anything starts."""
    return opened(settings, tokenizer, model).turns.tools if settings else None
