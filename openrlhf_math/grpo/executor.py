"""The agent executor: OpenRLHF's seam for rollouts. It generates a group of completions and grades each."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, get_args

from openrlhf.utils.agent import AgentExecutorBase
from vllm.sampling_params import RequestOutputKind, SamplingParams

from openrlhf_math.concurrency import gather
from openrlhf_math.data.prompts import Tokenizer, prompt_ids
from openrlhf_math.grpo.problems.majority import SHARE, VOTES, grades_by_majority, is_missing
from openrlhf_math.grpo.reward_parts import Completion, Group, RewardParts, find_part, values_of
from openrlhf_math.grpo.rollout.tool_turns import TokenLedger, ToolTurns, answer_tokens
from openrlhf_math.grpo.rollout.ungraded import RewardErrors
from openrlhf_math.rerank.answer_judge import AnswerJudge
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig
from openrlhf_math.rewards.outcome import Outcome
from openrlhf_math.runs.rollouts import MAJORITY, PART
from openrlhf_math.seeds import derived_seed

# Ungraded completions, kept until the trainer collects them. Bounded: a hostile policy makes many.
MAX_UNGRADED = 1000


class AgentExecutor(AgentExecutorBase):
    """Prompt, one completion, its grade as the reward. With a tool, a completion has several turns of the model.

    For a user's reward, `--train.agent_func_path FILE.py` with a subclass of the same name that has its own
    `grade`.
    """

    chat_template = True  # whether the prompts were rendered by one, which writes the first token itself
    tool: ToolTurns | None = None  # set before the first rollout, too
    parts: RewardParts | None = None  # likewise
    judge: AnswerJudge | None = None  # likewise; open
    majority = False  # whether a problem without a gold answer is graded by the majority of its group

    def __init__(self) -> None:
        self.ungraded: deque[dict] = deque(maxlen=MAX_UNGRADED)
        self.reward_errors = RewardErrors()

    def open(self, rewards: RewardConfig) -> None:
        """Called once, with the rewards of the run, before the first rollout."""
        self.pool = GradingPool(rewards)

    async def grade(self, text: str, label: str, problem: str) -> Grade:
        """The reward of a completion. label: the dataset's answer. problem: the whole prompt, as the model saw it.
        text: what the model wrote, without a tool's replies.

        If this raises, the completion counts as ungraded, with reward 0.
        """
        return await self.pool.grade(text, label, problem=problem)

    async def execute(
        self,
        prompt: str,
        label: str,
        sampling_params: SamplingParams,
        max_length: int,
        hf_tokenizer: Tokenizer,
        llm_engine: Any,
        images: None = None,
    ) -> dict:
        """One rollout, in the form OpenRLHF's sample generator reads."""
        group = await self.execute_group(prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, 1)
        return group[0]

    async def execute_group(
        self,
        prompt: str,
        label: str,
        sampling_params: SamplingParams,
        max_length: int,
        hf_tokenizer: Tokenizer,
        llm_engine: Any,
        num_samples: int,
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
        limit = sampling_params.max_tokens or max_length
        finish = self._hold if self.majority and is_missing(label) else self._rollout
        if self.tool:
            group = await gather(
                self._with_tool(prompt, label, ids, params.clone(), number, llm_engine, finish)
                for number in range(num_samples)
            )
            return await self._finished(group, prompt, label, ids, limit)
        params.n = num_samples
        params.detokenize = bool(params.stop)  # once a completion, below, instead of once a token
        output = await llm_engine.generate(ids, params)
        texts = hf_tokenizer.batch_decode([answer_tokens(one) for one in output.outputs], skip_special_tokens=False)
        group = []
        for completion, text in zip(output.outputs, texts, strict=True):
            ledger = TokenLedger(text=text)
            ledger.add_turn(completion)
            group.append(finish(prompt, label, ids, ledger))
        return await self._finished(await asyncio.gather(*group), prompt, label, ids, limit)

    async def _finished(self, group: list, prompt: str, label: str, ids: list[int], limit: int) -> list[dict]:
        """Graded rollouts with their reward. group: of `_hold`, if its gold answer is missing, else of `_rollout`."""
        if self.majority and is_missing(label):
            label, group = await self._by_majority(group, prompt, ids)
        return await self._composed(group, prompt, label, limit)

    async def _hold(self, prompt: str, label: str, ids: list[int], ledger: TokenLedger) -> TokenLedger:
        """Not graded before the whole group is there."""
        return ledger

    async def _by_majority(self, group: list[TokenLedger], prompt: str, ids: list[int]) -> tuple[str, list[dict]]:
        """The label that a group gives itself, and its rollouts graded by it."""
        texts = [one.text for one in group]
        failed: dict[str, Any] = {}
        try:
            label, grades = await asyncio.to_thread(grades_by_majority, texts, prompt, self.pool)
        except Exception as error:  # as with `grade`
            grade, failed = self._failed(grades_by_majority, error)
            label, grades = "", [grade] * len(group)
        votes = [float(grade.outcome == "correct") for grade in grades]
        graded = [(grade, failed) for grade in grades]
        if label and type(self).grade is not AgentExecutor.grade:  # a user's reward, by this label
            graded = await gather(self._own_grade(text, label, prompt) for text in texts)
        made = []
        for ledger, (grade, failed), vote in zip(group, graded, votes, strict=True):
            one = self._response(prompt, label, ids, ledger, grade, MAJORITY, **failed)
            one["extra_logs"] |= {SHARE: 1.0, VOTES: vote}
            made.append(one)
        return label, made

    async def _composed(self, group: list[dict], prompt: str, label: str, limit: int) -> list[dict]:
        """The group with the sum of its reward's parts, if the reward has parts. A part that raises is 0."""
        if not self.parts:
            return group
        seen = group_of(group, prompt, label, limit, self.parts.overlong_buffer)
        rewards = [0.0] * len(group)
        for name, weight in self.parts.weights:
            part = find_part(name)
            try:
                values = await values_of(part, seen)
            except Exception as error:  # as in `_rollout`
                values = [0.0] * len(group)
                grade, words = self.reward_errors.grade(part, error)
                traceback = {"traceback": words} if words else {}
                self.ungraded.append({"reason": grade.reason, "gold": label, "response": group[0]["text"]} | traceback)
                for one in group:
                    one["reward_error"] = grade.reason
                    one["extra_logs"]["reward_error_rate"] = 1.0
            for number, value in enumerate(values):
                rewards[number] += weight * value
                group[number]["extra_logs"][PART + name] = value
        for one, reward in zip(group, rewards, strict=True):
            one["reward"] = one["scores"] = reward
        return group

    async def _with_tool(
        self,
        prompt: str,
        label: str,
        ids: list[int],
        params: SamplingParams,
        number: int,
        llm_engine: Any,
        finish: Callable,
    ) -> Any:
        """A completion made by separate requests: each waits only for its tool. They share the prompt by its prefix.

        finish: `_rollout` or `_hold`.
        """
        assert self.tool
        params.n = 1
        ledger = await self.tool.write(ids, params, number, llm_engine)
        return await finish(prompt, label, ids, ledger)

    async def _rollout(self, prompt: str, label: str, ids: list[int], ledger: TokenLedger) -> dict:
        by = "gold"
        failed: dict[str, Any] = {}
        try:
            grade = checked(await self.grade(ledger.text, label, prompt))
            if self.judge:
                (judged,) = await asyncio.wrap_future(self.judge.soon(prompt, label, [grade]))
                grade, by = judged, "gold" if judged is grade else "judge"
        except Exception as error:  # one item's must not end the run; the trainer ends it if all raise
            grade, failed = self._failed(type(self).grade, error)
        return self._response(prompt, label, ids, ledger, grade, by, **failed)

    async def _own_grade(self, text: str, label: str, prompt: str) -> tuple[Grade, dict]:
        """Of a user's `grade` by the label of a majority; arguments of `_response` if it raised."""
        try:
            return checked(await self.grade(text, label, prompt)), {}
        except Exception as error:  # as in `_rollout`
            return self._failed(type(self).grade, error)

    def _failed(self, function: object, error: Exception) -> tuple[Grade, dict]:
        """A grade without reward, and arguments of `_response`. function: the one that raised."""
        grade, words = self.reward_errors.grade(function, error)
        return grade, {"raised": {"reward_error": grade.reason}, "words": words}

    def _response(
        self,
        prompt: str,
        label: str,
        ids: list[int],
        ledger: TokenLedger,
        grade: Grade,
        by: str,
        raised: Mapping[str, str] = {},
        words: str | None = None,
    ) -> dict:
        """A rollout in the form of `execute`. by: gold, judge or majority. raised, words: of a reward that raised, and
        its traceback."""
        if grade.outcome == "ungraded":
            traceback = {"traceback": words} if raised and words else {}
            self.ungraded.append({"reason": grade.reason, "gold": label, "response": ledger.text} | traceback)
        return {
            "prompt": prompt,
            "label": label,
            "images": None,
            "mm_train_inputs": None,
            **ledger.response(ids),
            "reward": grade.reward,
            "scores": grade.reward,
            "text": ledger.text,
            "grade": {"outcome": grade.outcome, "answer": grade.answer, "reason": grade.reason, "by": by},
            "extra_logs": rates(grade)
            | {"reward_error_rate": float(bool(raised))}
            | ({SHARE: 0.0, VOTES: 0.0} if self.majority else {})
            | ({"judged_rate": float(by == "judge")} if self.judge else {})
            | ledger.logs,
        } | dict(raised)


def checked(grade: object) -> Grade:
    """A grade that can be trained on. Raises ValueError for anything else.

    One NaN makes all advantages of a group NaN, and an unknown outcome would count as wrong.
    """
    if not isinstance(grade, Grade):
        raise ValueError(f"it returned {str(grade)[:100]!r}, not an openrlhf_math.rewards.Grade")
    if grade.outcome not in get_args(Outcome):
        raise ValueError(f"it returned the outcome {grade.outcome!r}, which is none of {', '.join(get_args(Outcome))}")
    if not math.isfinite(grade.reward):
        raise ValueError(f"it returned the reward {grade.reward}, which is not finite")
    return grade


def group_of(group: list[dict], prompt: str, label: str, limit: int, overlong_buffer: int) -> Group:
    """What parts of the reward see of rollouts as `_rollout` gives them."""
    completions = [
        Completion(
            text=one["text"],
            tokens=one["action_ranges"][-1][1] - one["action_ranges"][0][0],
            truncated=one["truncated"],
            outcome=one["grade"]["outcome"],
            answer=one["grade"]["answer"],
            well_formed=bool(one["extra_logs"]["format_rate"]),
        )
        for one in group
    ]
    return Group(prompt, label, tuple(completions), limit, overlong_buffer)


def rates(grade: Grade) -> dict[str, float]:
    """0/1 indicators whose means over a batch are the metrics of the same names."""
    return {
        "accuracy": float(grade.outcome == "correct"),
        "format_rate": float(grade.well_formed),
        "ungraded_rate": float(grade.outcome == "ungraded"),
    }
