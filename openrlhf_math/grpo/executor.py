"""The agent executor: OpenRLHF's seam for rollouts. It generates a group of completions and grades each."""

import asyncio
from collections import deque

from openrlhf.utils.agent import AgentExecutorBase
from vllm.sampling_params import RequestOutputKind

from openrlhf_math.data.prompts import prompt_ids
from openrlhf_math.grpo.seeds import derived_seed
from openrlhf_math.grpo.undecided import RewardErrors
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig

# Texts nobody could grade, kept until the trainer collects them. Bounded: a hostile policy makes many.
MAX_UNDECIDED = 1000


class AgentExecutor(AgentExecutorBase):
    """Single turn: prompt, one completion, its grade as the reward.

    For a reward of one's own, `--train.agent_func_path FILE.py` with a subclass of the same name that has its own
    `grade`.
    """

    chat_template = True  # whether the prompts were rendered by one, which writes the first token itself

    def __init__(self) -> None:
        self.undecided: deque[dict] = deque(maxlen=MAX_UNDECIDED)
        self.reward_errors = RewardErrors()

    def open(self, rewards: RewardConfig) -> None:
        """Called once, with the rewards of the run, before the first rollout."""
        self.pool = GradingPool(rewards)

    async def grade(self, text: str, label: str, problem: str) -> Grade:
        """What a completion is worth. label: the dataset's answer. problem: the whole prompt, as the model saw it.

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
        params.n = num_samples
        params.max_tokens = min(params.max_tokens or room, room)
        params.logprobs = 0  # the sampled token's only: for the gap between trainer and engine
        params.flat_logprobs = True
        if params.seed is not None:
            params.seed = derived_seed(params.seed, prompt)
        params.output_kind = RequestOutputKind.FINAL_ONLY
        params.detokenize = bool(params.stop)  # once a completion, below, instead of once a token
        output = await llm_engine.generate(ids, params)
        texts = hf_tokenizer.batch_decode([answer_tokens(one) for one in output.outputs], skip_special_tokens=False)
        return await asyncio.gather(
            *(
                self._rollout(prompt, label, ids, completion, text)
                for completion, text in zip(output.outputs, texts, strict=True)
            )
        )

    async def _rollout(self, prompt: str, label: str, ids: list[int], completion, text: str) -> dict:
        trouble = {}
        try:
            grade = await self.grade(text, label, prompt)
        except Exception as error:  # one item's must not end the run; the trainer ends it if all raise
            grade, words = self.reward_errors.grade(type(self).grade, error)
            trouble = {"reward_error": grade.reason}
        if grade.outcome == "undecided":
            traceback = {"traceback": words} if trouble and words else {}
            self.undecided.append({"reason": grade.reason, "gold": label, "response": text} | traceback)
        token_ids = list(completion.token_ids)
        return {
            "prompt": prompt,
            "label": label,
            "images": None,
            "mm_train_inputs": None,
            "observation_tokens": ids + token_ids,
            "action_ranges": [(len(ids), len(ids) + len(token_ids))],
            "rollout_log_probs": [0.0] * len(ids) + sampled_log_probs(token_ids, completion.logprobs),
            "truncated": completion.finish_reason == "length",
            "reward": grade.reward,
            "scores": grade.reward,
            "extra_logs": rates(grade) | {"reward_error_rate": float(bool(trouble))},
        } | trouble


def answer_tokens(completion) -> list[int]:
    """The tokens a person reads: all but the one that ended the completion."""
    token_ids = list(completion.token_ids)
    ended_by_token = completion.finish_reason == "stop" and not isinstance(completion.stop_reason, str)
    return token_ids[:-1] if ended_by_token else token_ids


def sampled_log_probs(token_ids: list[int], logprobs) -> list[float]:
    """Log-probability of each sampled token, from vLLM's flat list of one entry a token."""
    if len(logprobs.logprobs) != len(token_ids):
        raise ValueError(f"vLLM gave {len(logprobs.logprobs)} log-probabilities for {len(token_ids)} tokens")
    return logprobs.logprobs


def rates(grade: Grade) -> dict[str, float]:
    """0/1 indicators whose means over a batch are the metrics of the same names."""
    return {
        "accuracy": float(grade.outcome == "correct"),
        "format_rate": float(grade.well_formed),
        "undecided_rate": float(grade.outcome == "undecided"),
    }
