"""The package comes before OpenRLHF, so that its patches are registered when upstream is imported."""

import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling earns nothing in tests

import openrlhf_math  # noqa: E402, F401

FIRST = "test_demo.py"


def pytest_collection_modifyitems(items) -> None:
    """The demo, which most integration tests wait for, is made by one worker while the other has the unit tests."""
    items.sort(key=lambda item: 0 if item.path.name == FIRST else 1 if "unit" in item.path.parts else 2)
