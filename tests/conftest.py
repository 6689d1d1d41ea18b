"""The package comes before OpenRLHF, so that its patches are registered when upstream is imported."""

import openrlhf_math  # noqa: F401
