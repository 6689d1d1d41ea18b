"""The file OpenRLHF loads as `--train.agent_func_path` when none is given: a class, not a copy of executor.py's."""

from openrlhf_math.grpo.executor import AgentExecutor

__all__ = ["AgentExecutor"]
