"""Mistakes that users make, in every command: exit code 2, one sentence that names the flag or the file, no traceback,
nothing written, and no engine started. docs/mistakes.md has the sentences."""

import pytest
from mistakes import MISTAKES, PAGE, make_world, row, run, without_engines

ALL = [mistake for group in MISTAKES.values() for mistake in group]
WRITTEN = PAGE.read_text().splitlines()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = tmp_path_factory.mktemp("world")
    make_world(world)
    return world


def files_of(folder):
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize(("typed", "named"), ALL, ids=[typed for typed, _ in ALL])
def test_mistake_is_one_sentence(typed, named, world, monkeypatch):
    monkeypatch.chdir(world)
    before = files_of(world)
    with without_engines():
        code, said = run(typed)
    assert code == 2
    assert len(said) == 1, said
    assert said[0].startswith("openrlhf-math") and named in said[0]
    assert files_of(world) == before
    assert row(typed, said[0]) in WRITTEN, "regenerate the page: python tests/mistakes.py"


def test_page_lists_exactly_these_mistakes():
    assert sum(line.startswith("| `") for line in WRITTEN) == len(ALL) + len(MISTAKES)
