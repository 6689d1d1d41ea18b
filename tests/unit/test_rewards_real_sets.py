"""Every answer of real problem sets is read as a number; skipped without shared/data."""

import json
from pathlib import Path

import pytest

from openrlhf_math.rewards import Grade, RewardConfig, parse_gold
from openrlhf_math.rewards.outcome import begin

ROOT = Path(__file__).parents[2]
FOLDERS = [folder / "shared" / "data" for folder in (ROOT, ROOT.parent)]
CONFIG = RewardConfig()


def answers(name: str) -> list[str]:
    file = next((folder / name for folder in FOLDERS if (folder / name).exists()), None)
    if file is None:
        pytest.skip(f"there is no shared/data/{name}")
    return [str(json.loads(line)["answer"]) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["gsm8k_train.jsonl", "mawps.jsonl"])
def test_answers(name):
    """The right number is correct, the next one is not, and neither takes symbolic work."""
    for answer in answers(name):
        gold = parse_gold(answer)
        assert gold.number, answer
        right, wrong = (
            begin(rf"\boxed{{{text}}}", answer, None, CONFIG) for text in (gold.text, gold.number.value + 1)
        )
        assert isinstance(right, Grade) and isinstance(wrong, Grade), answer
        assert (right.outcome, wrong.outcome) == ("correct", "format"), answer
