"""The package comes before OpenRLHF, so that its patches are registered when upstream is imported."""

import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling earns nothing in tests

import openrlhf_math  # noqa: E402, F401
