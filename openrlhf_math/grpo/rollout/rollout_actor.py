"""The rollout actor: OpenRLHF's vLLM actor with our executor, engine settings and vLLM's weight transfer."""

import asyncio
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
from transformers import AutoTokenizer

from openrlhf_math.colocation import layout
from openrlhf_math.colocation.async_engine import end_with_engine, engine_may_die
from openrlhf_math.colocation.engine_life import end_actor, engine_start, leave_cause
from openrlhf_math.colocation.layout import cache_arguments, engine_arguments
from openrlhf_math.data.chat_template import prepared
from openrlhf_math.data.prompts import Tokenizer, with_first_text, with_variables
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.executor import AgentExecutor
from openrlhf_math.grpo.faults.watchdog import answer_to_signal
from openrlhf_math.grpo.generation import Generation
from openrlhf_math.grpo.reward_parts import RewardParts
from openrlhf_math.grpo.rollout.determinism import StartTogether
from openrlhf_math.grpo.rollout.remote_reward import RemoteReward
from openrlhf_math.grpo.rollout.tool_turns import RolloutTool, ToolTurns
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.rerank.answer_judge import AnswerJudge, JudgeSettings
from openrlhf_math.rewards import RewardConfig

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest

UpstreamRolloutActor: Any = RolloutRayActor.__ray_metadata__.modified_class


class MathRolloutActor(UpstreamRolloutActor):
    """One vLLM engine that answers with graded groups. weights_version: gradient steps that its weights had."""

    weights_version = 0  # of those the run began with

    executor: Any  # upstream makes it, of the class in `--train.agent_func_path`

    async def __init__(  # type: ignore[misc]  # a coroutine, as upstream's: Ray awaits it
        self,
        *args: Any,
        device: str,
        colocated: bool,
        sequences: int,
        rewards: RewardConfig,
        chat_template: bool = True,
        tool: RolloutTool | None = None,
        parts: RewardParts | None = None,
        majority: bool = False,
        judge: JudgeSettings | None = None,
        generation: Generation | None = None,
        engines_a_node: int = 1,
        **kwargs: Any,
    ) -> None:
        """sequences: how many are generated at once at the most. chat_template: whether it rendered the prompts.

        tool: what the model may call. parts: of the reward. majority: whether it takes a missing gold answer's place.
        judge: the model that decides ungraded answers. generation: the user's engine arguments and template
        variables. engines_a_node: that share a node's memory for the tool. Raises UserError if the tool is not
        available here, or if the executor does not support one of these.
        """
        answer_to_signal()
        self.device, self.chat_template = device, chat_template
        self.tokenizer = prepared(
            AutoTokenizer.from_pretrained(kwargs["model"], trust_remote_code=remote_code_trusted())
        )
        generation = generation or Generation()
        with_variables(self.tokenizer, generation.template_variables)  # a tool's replies are rendered with it
        arguments = engine_arguments(device, colocated)
        arguments |= cache_arguments(device, kwargs["model"], sequences, kwargs["max_model_len"])
        if device == "cpu" and kwargs.get("full_determinism"):
            arguments["enable_chunked_prefill"] = False  # see generation_arguments
        try:
            with engine_start(device):
                await super().__init__(*args, **{**kwargs, **arguments, **generation.engine_args})
        except Exception as error:
            leave_cause(error)
            raise
        if getattr(self.executor, "reward_endpoints", None):
            self.executor = RemoteReward(self.executor.reward_endpoints)
        self.watch = asyncio.ensure_future(end_with_engine(self.llm))
        self.together = StartTogether(self.llm) if kwargs.get("full_determinism") else None
        if isinstance(self.executor, AgentExecutor):
            self.executor.chat_template = chat_template
            self.executor.open(rewards)
            self.executor.parts, self.executor.majority = parts, majority
            if judge:  # equal questions are asked once in the life of this process
                journal = Path(tempfile.mkdtemp(prefix="judge_")) / "judge.jsonl"
                self.executor.judge = AnswerJudge(judge, rewards, journal).__enter__()
            if tool:
                self.executor.tool = ToolTurns(tool, self.tokenizer, kwargs["model"], engines_a_node)
        elif tool or parts or majority or judge:
            wanted = {"--math.tool": tool, "--math.rewards": parts, "--math.majority_labels": majority}
            unknown = next((flag for flag, given in wanted.items() if given), "--judge-base-url")
            raise UserError(
                f"--train.agent_func_path: with {unknown} its AgentExecutor must be a subclass of "
                "openrlhf_math.grpo.executor.AgentExecutor, which knows what that is"
            )

    async def incarnation_id(self) -> str:
        """Identifies this process: the id changes with each restart. Where the engine is dead, the actor ends, too, so
        that Ray starts it again."""
        if self.llm.errored:
            end_actor()
        return f"{socket.gethostname()} {os.getpid()}"

    async def generate(self, *args: Any, **kwargs: Any) -> "RequestOutput":
        with engine_may_die("a rollout"):
            return await super().generate(*args, **kwargs)

    async def generate_responses(
        self,
        prompt: str,
        label: str,
        sampling_params: "SamplingParams",
        max_length: int,
        hf_tokenizer: Tokenizer | None,
        num_samples: int = 1,
        images: Any = None,
    ) -> list[dict]:
        """A group of `num_samples` rollouts of one prompt. `hf_tokenizer` None: the engine's own.

        Each has the version of the `weights` that wrote it and the `span` in which its group was made, Unix time.
        """
        version, begun = self.weights_version, time.time()
        hf_tokenizer = hf_tokenizer or self.tokenizer
        if isinstance(self.executor, AgentExecutor) and images is None:
            asked = self.executor.execute_group(
                prompt, label, sampling_params, max_length, hf_tokenizer, self, num_samples
            )
            group = await (self.together.run(asked, prompt, num_samples) if self.together else asked)
        else:
            if self.together:
                self.together.arrived += 1
            sampling_params.seed = None  # it would be the same for a whole group
            # OpenRLHF's executors tokenize without special tokens, so the text must have the first one.
            text = prompt if self.chat_template or images is not None else with_first_text(hf_tokenizer, prompt)
            group = await super().generate_responses(
                text, label, sampling_params, max_length, hf_tokenizer, num_samples, images
            )
            for rollout in group:
                if rollout.get("prompt") == text:
                    rollout["prompt"] = prompt
        made = {"weights": version, "span": (begun, time.time())}
        return [rollout | made for rollout in group]

    async def have_weights(self, version: int) -> None:
        """The weights that came last are those of the policy after `version` gradient steps."""
        self.weights_version = version

    async def arrived(self) -> int:
        """With full determinism: rollouts asked for since the last `release`, which wait for it."""
        assert self.together
        return self.together.arrived

    async def release(self) -> None:
        assert self.together
        await self.together.release()

    async def take_ungraded(self) -> list[dict]:
        """Responses that could not be graded since the last call, with the reason."""
        ungraded = getattr(self.executor, "ungraded", None) or []
        taken = list(ungraded)
        ungraded.clear()
        return taken

    # The four methods of vLLM's weight transfer: requests are vLLM's own.

    async def init_weight_transfer_engine(self, request: "WeightTransferInitRequest") -> None:
        await self.llm.init_weight_transfer_engine(request)

    async def start_weight_update(self) -> None:
        await self.llm.start_weight_update()

    async def update_weights(self, request: "WeightTransferUpdateRequest") -> None:
        await self.llm.update_weights(request)

    async def finish_weight_update(self) -> None:
        await self.llm.finish_weight_update()

    async def used_bytes(self) -> int:
        """Of the fullest of this engine's workers."""
        return max(await self.llm.collective_rpc("used_bytes"))

    async def take_peak_bytes(self) -> int:
        """Of all this engine's workers, and on the CPU of this process, which is not one of them."""
        here = layout.take_peak_bytes("cpu") if self.device == "cpu" else 0
        return here + sum(await self.llm.collective_rpc("take_peak_bytes"))

    async def patches_applied(self) -> dict[str, list]:
        """Upstream's modules imported patched: in this actor and in vLLM's worker processes."""
        import openrlhf.utils.distributed_util  # noqa: F401  a target, which this actor may not need

        from openrlhf_math.patches import applied

        return {"actor": [applied()], "engine": await self.llm.collective_rpc("patches_applied")}
