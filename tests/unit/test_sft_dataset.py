"""What SFT learns from: the completion's tokens and the end of sequence, nothing of the prompt, nothing cut."""

import json

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.tiny_world import write_tiny_world


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "world"
    write_tiny_world(folder, raw=100, train=10, heldout=10)
    return folder / "model"


def test_rows_that_do_not_fit_are_left_out_and_told(model, tmp_path, capsys):
    rows = [{"problem": "1+1?", "response": r"\boxed{2}"}] * 8 + [{"problem": "1+1?", "response": "7" * 500}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = main([
        "sft", "--model.model_name_or_path", str(model), "--data.dataset", str(path), "--data.max_len", "128",
        "--train.batch_size", "9", "--train.micro_batch_size", "9", "--math.run_dir", str(tmp_path / "run"),
    ])  # fmt: skip
    told = capsys.readouterr()
    assert code == 2 and "has 8 rows, fewer than one batch" in told.err
    assert "left out: 1 of 9 rows are longer than --data.max_len 128" in told.out and "row 9 of" in told.out
    assert not (tmp_path / "run").exists()
