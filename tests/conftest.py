"""The package comes before OpenRLHF, so that its patches are registered when upstream is imported."""

import os
import sys
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling takes longer than it saves in tests

import openrlhf_math  # noqa: E402, F401

FIRST = "test_demo.py"

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow now and then
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items) -> None:
    """The demo, which most integration tests wait for, is made by one worker while the other has the unit tests."""
    items.sort(key=lambda item: 0 if item.path.name == FIRST else 1 if "unit" in item.path.parts else 2)


def pytest_runtest_setup(item) -> None:
    """Of several workers each computes with one thread: as many as cores in each would wait for each other."""
    if "unit" in item.path.parts and "PYTEST_XDIST_WORKER" in os.environ and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pytest_runtest_logreport(report) -> None:
    """A failure is printed at once: a run that is stopped before its summary still names what failed."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        text = f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext[-2000:]}"
        print(text, file=sys.__stdout__, flush=True)


def pytest_configure() -> None:
    """Without packages, pytest takes two files of one name for one, and reports nothing when each is run alone."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise pytest.UsageError(f"tests/ has more than one {', '.join(twice)}: give each file another name")
