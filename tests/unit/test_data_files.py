"""A file that is written whole or not at all, and what is not a plain file."""

import errno
import os
import stat
import threading

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.files import atomic_write


def test_error_keeps_only_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError), atomic_write(path) as file:
        file.write("new")
        raise ValueError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_full_disk_names_the_file(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError) as raised, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(path) and os.listdir(tmp_path) == []


def test_link_target_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "real" / "file")
    with atomic_write(path) as file:
        file.write("text")
    assert path.is_symlink() and (tmp_path / "real" / "file").read_text() == "text"


def test_pipe_is_kept(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    with atomic_write(path) as file:
        file.write("text")
    reader.join(30)
    assert read == ["text"] and stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_full_device_is_an_error(tmp_path):
    link = tmp_path / "output"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError), atomic_write(link) as file:
        file.write("text")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_command_reports_a_full_disk(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"gold": "1", "response": "\\\\boxed{1}"}\n')
    assert main(["grade", str(rows), "--output", "/dev/full"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].count("make room") == 1
