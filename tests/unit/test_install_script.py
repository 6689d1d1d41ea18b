"""requirements/install.sh, with programs in place of Python and uv that only note what they are asked to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Reports another version, makes environments of that version, and notes what pip is to install, with files read.
PYTHON = f"""#!/bin/bash
note() {{
  echo "$1" >>"$NOTES"
  shift
  while [ $# -gt 0 ]; do
    [ "$1" != -r ] || {{ shift; cat "$1" >>"$NOTES"; shift; continue; }}
    echo "$1" >>"$NOTES"
    shift
  done
}}
case "$*" in
  *version_info*) echo VERSION ;;
  *"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"-m pip install"*) note pip "$@" ;;
  venv*) mkdir -p "${{@: -1}}/bin" && cp "$PYTHON_OF_UV" "${{@: -1}}/bin/python" && echo "uv venv" >>"$NOTES" ;;
  "pip install"*) note uv "$@" ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


def program(path: Path, version: str) -> Path:
    path.write_text(PYTHON.replace("VERSION", version))
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path):
    """A directory with requirements/ alone, as an image has it first, and a PATH with the fewest programs."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "bin").mkdir()
    return tmp_path


def install(clone: Path, **environment: str) -> tuple[int, str, list[str]]:
    """The exit code, standard error and what pip or uv was asked for."""
    notes = clone / "notes"
    variables = {"PATH": f"{clone / 'bin'}:/usr/bin:/bin", "NOTES": str(notes), "HOME": str(clone)} | environment
    result = subprocess.run(
        [clone / "requirements" / "install.sh", "cpu", clone / "venv"], env=variables, capture_output=True, text=True
    )
    return result.returncode, result.stderr, notes.read_text().splitlines() if notes.exists() else []


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_each_python_has_a_complete_lock(clone, version, installer):
    python = program(clone / "bin" / f"python{version}", version)
    program(clone / "bin" / "uv", version)
    more = {"PYTHON": str(python), "PYTHON_OF_UV": str(python)} | ({"UV": ""} if installer == "pip" else {})
    code, said, notes = install(clone, **more)
    assert code == 0, said
    assert set(notes) & {"pip", "uv"} == ({"pip"} if installer == "pip" else {"uv", "pip"}), "uv's own word is pip"
    locks = [clone / "requirements" / name for name in ("cpu.txt", "cpu-nodeps.txt", "dev.txt")]
    pins = {line for lock in locks for line in lock.read_text().splitlines() if line and line[0] != "#"}
    assert pins <= set(notes)
    # The wheel of another Python is asked for only where there is none of this one's.
    assert ("--python-version" in notes) == (version == "3.13") and notes.count("openrlhf==0.11.2") == 1


@pytest.mark.parametrize(
    ("version", "named"), [("3.10", "Python 3.10"), ("3.14", "Python 3.14"), ("2.7", "Python 2.7")]
)
def test_python_without_wheels_is_one_sentence(clone, version, named):
    code, said, notes = install(clone, PYTHON=str(program(clone / "bin" / "python3", version)))
    assert code == 2 and notes == []
    assert len(said.splitlines()) == 1 and named in said and "3.13" in said


def test_no_python_is_one_sentence(clone):
    code, said, notes = install(clone, PYTHON="python9.9")
    assert code == 2 and notes == [] and len(said.splitlines()) == 1 and "python9.9" in said


def test_environments_of_different_pythons_are_not_mixed(clone):
    (clone / "venv" / "bin").mkdir(parents=True)
    program(clone / "venv" / "bin" / "python", "3.11")
    code, said, notes = install(clone, PYTHON=str(program(clone / "bin" / "python3.13", "3.13")))
    assert code == 2 and notes == [] and "3.11" in said and "3.13" in said


def test_supported_pythons_are_the_same_everywhere():
    from openrlhf_math.doctor.software import PYTHONS

    for script in ("install.sh", "lock.sh"):
        assert f'supported="{" ".join(PYTHONS)}"' in (ROOT / "requirements" / script).read_text()
    assert os.access(ROOT / "requirements" / "lock.sh", os.X_OK)
