"""The type of a GRPO run's arguments: OpenRLHF's sections and our settings. It has its own module because the settings
are made from modules that take it."""

from typing import TYPE_CHECKING, Protocol

from openrlhf_math.arguments import RLArguments

if TYPE_CHECKING:
    from openrlhf_math.grpo.settings import MathSettings


class GRPOArguments(RLArguments, Protocol):
    math: "MathSettings"
