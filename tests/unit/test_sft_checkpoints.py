"""The newest whole checkpoint is the one a run goes on from."""

import pytest
import torch

from openrlhf_math.distill.sft_checkpoints import settle_checkpoints
from openrlhf_math.errors import UserError


def checkpoint(folder, step: int, torn: bool = False, finished: bool = True):
    path = folder / f"global_step{step}"
    path.mkdir(parents=True)
    torch.save({"weights": torch.zeros(5000)}, path / "states.pt")
    if torn:
        (path / "states.pt").write_bytes((path / "states.pt").read_bytes()[:-500])
    if finished:
        (path / "metric.json").write_text("{}")


def test_a_torn_one_is_removed_and_the_one_before_is_taken(tmp_path, capsys):
    checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 100)
    checkpoint(tmp_path, 200, torn=True)
    checkpoint(tmp_path, 300, finished=False)
    settle_checkpoints(tmp_path)
    assert (tmp_path / "latest").read_text() == "global_step100"
    assert sorted(path.name for path in tmp_path.glob("global_step*")) == ["global_step100", "global_step9"]
    assert "global_step200 is torn (states.pt ends early)" in capsys.readouterr().out


def test_none_whole_is_refused(tmp_path):
    checkpoint(tmp_path, 5, torn=True)
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        settle_checkpoints(tmp_path)
    assert (tmp_path / "global_step5").exists(), "nothing is removed where nothing is left"


def test_no_checkpoint_is_a_run_from_the_start(tmp_path):
    settle_checkpoints(tmp_path)
    assert not (tmp_path / "latest").exists()
