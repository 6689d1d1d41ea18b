"""Every example in the table of docs/grade.md is graded as it says."""

import re
from pathlib import Path

import pytest

from openrlhf_math.rewards import RewardConfig, grade

PAGE = Path(__file__).parents[2] / "docs" / "grade.md"
CONFIG = RewardConfig(workers=1)
CODE = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[str, str, bool]]:
    found = []
    text = PAGE.read_text(encoding="utf-8").partition("| kind | gold | counts | does not |")[2].partition("\n\n")[0]
    for line in text.splitlines()[2:]:
        cells = [cell.replace("\0", "|") for cell in line.replace("\\|", "\0").strip("| ").split(" | ")]
        (gold,) = CODE.findall(cells[1])
        found += [(gold, answer, True) for answer in CODE.findall(cells[2])]
        found += [(gold, answer, False) for answer in CODE.findall(cells[3])]
    return found


def test_table_is_parsed():
    assert len(rows()) > 150
    assert {right for _, _, right in rows()} == {True, False}


@pytest.mark.parametrize("gold, answer, right", rows())
def test_documented(gold, answer, right):
    assert (grade(rf"\boxed{{{answer}}}", gold, config=CONFIG).outcome == "correct") is right
