"""A checkpoint is used if it is, to the byte, what was written; a run resumes from the newest such one."""

import json
import os

import pytest

from openrlhf_math.checkpoints.folder import (
    MANIFEST,
    commit,
    damage_of,
    files_of,
    make_room,
    seal,
    settle,
    tags_in,
    write_manifest,
)
from openrlhf_math.errors import UserError


def written(folder, tag: str, metric: float | None = None):
    """A checkpoint as the strategy writes it, before it has its name."""
    path = folder / ".unfinished" / tag
    (path / "inner").mkdir(parents=True)
    (path / "weights.pt").write_bytes(os.urandom(5000))
    (path / "inner" / "optimizer.pt").write_bytes(os.urandom(9000))
    (path / "metric.json").write_text(json.dumps({"metric_value": metric}))
    write_manifest(path, seal(path, files_of(path)))
    return path


def checkpoint(folder, tag: str, metric: float | None = None):
    written(folder, tag, metric)
    commit(folder, tag)
    return folder / tag


def cut(path):
    (path / "weights.pt").write_bytes((path / "weights.pt").read_bytes()[:-7])


def flip_a_bit(path):
    data = bytearray((path / "inner" / "optimizer.pt").read_bytes())
    data[4321] ^= 1
    (path / "inner" / "optimizer.pt").write_bytes(data)


def claim_another_hash(path):
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"]["weights.pt"]["sha256"] = "0" * 64
    (path / MANIFEST).write_text(json.dumps(manifest))


FAULTS = {
    "weights.pt has 4993 bytes, not 5000": cut,
    "inner/optimizer.pt is not what was written": flip_a_bit,
    "weights.pt is not what was written": claim_another_hash,
    "weights.pt is missing": lambda path: (path / "weights.pt").unlink(),
    "mp_rank_01_model_states.pt is not in its manifest.json": lambda path: (
        path / "mp_rank_01_model_states.pt"
    ).write_bytes(b"code"),
    "it has no manifest.json, so it was not written to its end": lambda path: (path / MANIFEST).unlink(),
    "its manifest.json cannot be read": lambda path: (path / MANIFEST).write_text('{"files": {"weights.pt": 3}}'),
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_faulty_checkpoint_is_named_and_the_previous_one_used(tmp_path, capsys, sentence):
    checkpoint(tmp_path, "global_step9")
    FAULTS[sentence](checkpoint(tmp_path, "global_step10"))
    assert settle(tmp_path) == "global_step9"
    assert (tmp_path / "latest").read_text() == "global_step9"
    assert f"checkpoint global_step10 is refused: {sentence}" in capsys.readouterr().out
    assert tags_in(tmp_path) == ["global_step9"]
    assert (tmp_path / "refused_global_step10").is_dir()


def test_links_out_of_a_checkpoint_are_not_followed(tmp_path):
    path = checkpoint(tmp_path / "run", "global_step1")
    (tmp_path / "elsewhere").write_bytes(b"code")
    (path / "weights.pt").unlink()
    (path / "weights.pt").symlink_to(tmp_path / "elsewhere")
    assert damage_of(path) == "weights.pt has 4 bytes, not 5000"


def test_complete_checkpoint_is_valid_and_newest_by_number(tmp_path):
    for step in (2, 9, 10):
        assert damage_of(checkpoint(tmp_path, f"global_step{step}")) is None
    assert settle(tmp_path) == "global_step10"


def test_best_checkpoint_can_be_resumed(tmp_path):
    for tag in ("global_step8", "best_global_step10"):
        checkpoint(tmp_path, tag)
    assert settle(tmp_path) == "best_global_step10"
    checkpoint(tmp_path, "global_step10")
    assert settle(tmp_path) == "global_step10"


def test_partially_written_checkpoint_is_ignored(tmp_path):
    checkpoint(tmp_path, "global_step1")
    written(tmp_path, "global_step2")
    assert settle(tmp_path) == "global_step1"


def test_no_valid_checkpoint_is_refused_without_changes(tmp_path):
    cut(checkpoint(tmp_path, "global_step5"))
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole \(global_step5: weights.pt has"):
        settle(tmp_path)
    assert (tmp_path / "global_step5").exists()


def test_run_without_checkpoint_starts_from_the_beginning(tmp_path):
    assert settle(tmp_path) is None
    assert settle(tmp_path / "nowhere") is None


def test_two_models_resume_from_the_same_step(tmp_path):
    for step in (1, 2, 3):
        checkpoint(tmp_path / "_actor", f"global_step{step}")
    checkpoint(tmp_path / "_critic", "global_step1")
    cut(checkpoint(tmp_path / "_critic", "global_step2"))
    assert settle(tmp_path / "_actor", tmp_path / "_critic") == "global_step1"
    assert (tmp_path / "_actor" / "latest").read_text() == "global_step1"


@pytest.mark.parametrize(
    ("metrics", "max_num", "left"),
    [
        ([None, None, None, None], 2, [3, 4]),
        ([0.5, 0.9, 0.1, 0.7], 2, [2, 4]),
        ([0.5, None, 0.9, 0.1], 2, [3, 4]),
        ([0.9, 0.8, 0.7, 0.1], 1, [4]),
        ([None, None, None, None], 0, [4]),
    ],
    ids=["oldest first", "worst first", "without evaluation first", "never the newest", "not even for none"],
)
def test_old_checkpoints_are_removed(tmp_path, metrics, max_num, left):
    for step, metric in enumerate(metrics, start=1):
        checkpoint(tmp_path, f"global_step{step}", metric)
    make_room(tmp_path, "global_step4", max_num, float("inf"))
    assert tags_in(tmp_path) == [f"global_step{step}" for step in left]


def test_only_the_newest_best_checkpoint_is_kept(tmp_path):
    for tag in ("best_global_step1", "global_step1", "best_global_step2", "global_step2", "global_step3"):
        checkpoint(tmp_path, tag)
    make_room(tmp_path, "global_step3", 2, float("inf"))
    assert tags_in(tmp_path) == ["best_global_step2", "global_step2", "global_step3"]
    make_room(tmp_path, "global_step3", 2, 35_000 / 2**30)
    assert tags_in(tmp_path) == ["best_global_step2", "global_step3"]
