"""The tool that a model may call, as the commands' flags set it."""

from dataclasses import dataclass

from openrlhf_math.errors import BadValue
from openrlhf_math.tools.code_blocks import FORMS
from openrlhf_math.tools.isolation import WANTED
from openrlhf_math.tools.kernel import LEAST, KernelLimits


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """Raises BadValue for values that cannot work.

    calls      that an attempt may make
    seconds    CPU time of a call; by the wall clock four times as much
    memory_mb  MiB of memory of an attempt's programs
    isolation  of `isolation.WANTED`
    form       of `code_blocks.FORMS`
    output     characters of a call's output that the model is shown
    """

    calls: int = 8
    seconds: float = 10.0
    memory_mb: int = 1024
    isolation: str = "auto"
    form: str = "block"
    output: int = 4096

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise BadValue("calls", self.calls, "1 or more")
        for name, known in (("isolation", WANTED), ("form", FORMS)):
            if getattr(self, name) not in known:
                raise BadValue(name, getattr(self, name), f"one of {', '.join(known)}")
        if not LEAST["output_chars"] <= self.output:
            raise BadValue("output", self.output, f"{LEAST['output_chars']} or more")
        self.limits()

    def limits(self) -> KernelLimits:
        return KernelLimits(seconds=self.seconds, memory_mb=self.memory_mb, output_chars=self.output)

    def identity(self) -> dict[str, object]:
        """What decides the completions, by flag."""
        return {
            "tool_form": self.form,
            "tool_calls": self.calls,
            "tool_seconds": self.seconds,
            "tool_memory": self.memory_mb,
        }
