"""The agent executor: OpenRLHF's seam for rollouts. It generates a group of completions and grades each."""

import asyncio
from collections import deque

from openrlhf.utils.agent import AgentExecutorBase
from vllm.sampling_params import RequestOutputKind

from openrlhf_math.data.prompts import prompt_ids
from openrlhf_math.grpo.tool_turns import ToolTurns
from openrlhf_math.grpo.undecided import RewardErrors
from openrlhf_math.grpo.written import Written, answer_tokens
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig
from openrlhf_math.seeds import derived_seed
from openrlhf_math.side_by_side import side_by_side

# Texts nobody could grade, kept until the trainer collects them. Bounded: a hostile policy makes many.
MAX_UNDECIDED = 1000


class AgentExecutor(AgentExecutorBase):
    """Prompt, one completion, its grade as the reward. With a tool, a completion has several turns of the model.

    For a reward of one's own, `--train.agent_func_path FILE.py` with a subclass of the same name that has its own
    `grade`.
    """

    chat_template = True  # whether the prompts were rendered by one, which writes the first token itself
    tool: ToolTurns | None = None  # set before the first rollout, too

    def __init__(self) -> None:
        self.undecided: deque[dict] = deque(maxlen=MAX_UNDECIDED)
        self.reward_errors = RewardErrors()

    def open(self, rewards: RewardConfig) -> None:
        """Called once, with the rewards of the run, before the first rollout."""
        self.pool = GradingPool(rewards)

    async def grade(self, text: str, label: str, problem: str) -> Grade:
        """What a completion is worth. label: the dataset's answer. problem: the whole prompt, as the model saw it.
        text: what the model wrote, without a tool's replies.

        If this raises, the completion counts as undecided, with reward 0.
        """
        return await self.pool.grade(text, label, problem=problem)

    async def execute(self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None):
        """One rollout, in the form OpenRLHF's sample generator reads."""
        group = await self.execute_group(prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, 1)
        return group[0]

    async def execute_group(
        self, prompt: str, label: str, sampling_params, max_length: int, hf_tokenizer, llm_engine, num_samples: int
    ) -> list[dict]:
        """A group of rollouts from one request, so that its completions share the prompt's prefill.

        Raises ValueError if the prompt leaves no room for a completion within `max_length` tokens.
        """
        (ids,) = prompt_ids(hf_tokenizer, [prompt], self.chat_template)
        room = max_length - len(ids)
        if room <= 0:
            raise ValueError(f"a prompt of {len(ids)} tokens leaves no room within --data.max_len {max_length}")
        params = sampling_params.clone()
        params.max_tokens = min(params.max_tokens or room, room)
        params.logprobs = 0  # the sampled token's only: for the gap between trainer and engine
        params.flat_logprobs = True
        if params.seed is not None:
            params.seed = derived_seed(f"{params.seed}\0{prompt}")
        params.output_kind = RequestOutputKind.FINAL_ONLY
        if self.tool:
            return await side_by_side(
                self._with_tool(prompt, label, ids, params.clone(), number, llm_engine) for number in range(num_samples)
            )
        params.n = num_samples
        params.detokenize = bool(params.stop)  # once a completion, below, instead of once a token
        output = await llm_engine.generate(ids, params)
        texts = hf_tokenizer.batch_decode([answer_tokens(one) for one in output.outputs], skip_special_tokens=False)
        group = []
        for completion, text in zip(output.outputs, texts, strict=True):
            written = Written(text=text)
            written.add_turn(completion)
            group.append(self._rollout(prompt, label, ids, written))
        return await asyncio.gather(*group)

    async def _with_tool(self, prompt: str, label: str, ids: list[int], params, number: int, llm_engine) -> dict:
        """A completion of its own requests: each waits for its tool alone. They share the prompt by its prefix."""
        params.n = 1
        written = await self.tool.write(ids, params, number, llm_engine)
        return await self._rollout(prompt, label, ids, written)

    async def _rollout(self, prompt: str, label: str, ids: list[int], written: Written) -> dict:
        trouble = {}
        try:
            grade = await self.grade(written.text, label, prompt)
        except Exception as error:  # one item's must not end the run; the trainer ends it if all raise
            grade, words = self.reward_errors.grade(type(self).grade, error)
            trouble = {"reward_error": grade.reason}
        if grade.outcome == "undecided":
            traceback = {"traceback": words} if trouble and words else {}
            self.undecided.append({"reason": grade.reason, "gold": label, "response": written.text} | traceback)
        return {
            "prompt": prompt,
            "label": label,
            "images": None,
            "mm_train_inputs": None,
            **written.response(ids),
            "reward": grade.reward,
            "scores": grade.reward,
            "extra_logs": rates(grade) | {"reward_error_rate": float(bool(trouble))} | written.logs,
        } | trouble


def rates(grade: Grade) -> dict[str, float]:
    """0/1 indicators whose means over a batch are the metrics of the same names."""
    return {
        "accuracy": float(grade.outcome == "correct"),
        "format_rate": float(grade.well_formed),
        "undecided_rate": float(grade.outcome == "undecided"),
    }
