#!/usr/bin/env bash
# Make the virtual environment with the pinned stack. Says in one sentence what is missing, before it downloads.
# Usage: requirements/install.sh cpu|gpu [VENV]
# PYTHON=python3.11 chooses the interpreter; PIP_ARGS="--extra-index-url ..." goes to every pip install.
set -euo pipefail
cd "$(dirname "$0")/.."
stack="${1:-cpu}" venv="${2:-.venv}" python="${PYTHON:-}"
declare -A gib_needed=([cpu]=8 [gpu]=24)

fail() { echo "setup: $*" >&2; exit 2; }

[ -n "${gib_needed[$stack]:-}" ] || fail "the stack is 'cpu' or 'gpu', not '$stack'"
if [ -z "$python" ]; then
  python=python3.11
  command -v "$python" >/dev/null || python=python3
fi
command -v "$python" >/dev/null ||
  fail "no Python 3.11 is on PATH: install it (apt-get install python3.11 python3.11-venv g++ libnuma1), or set PYTHON to where it is"
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
[ "$version" = 3.11 ] ||
  fail "$python is Python $version, the pinned stack is for 3.11: install it, or set PYTHON to where it is"
"$python" -c 'import ensurepip' 2>/dev/null ||
  fail "$python cannot make virtual environments: apt-get install python3.11-venv"
command -v "${CXX:-g++}" >/dev/null ||
  fail "no C++ compiler is on PATH, DeepSpeed and PyTorch compile kernels as they run: apt-get install g++"
[ "$stack" != gpu ] || [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
  fail "$python has no headers (Python.h), which DeepSpeed's kernels include: apt-get install python3.11-dev"
[ "$stack" != cpu ] || "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
  fail "the library libnuma.so.1 is missing, which vLLM's CPU kernels are linked to: apt-get install libnuma1"
free=$(($(df --output=avail -k . | tail -1) / 1048576))
[ -x "$venv/bin/python" ] || [ "$free" -ge "${gib_needed[$stack]}" ] ||
  fail "the $stack stack needs ${gib_needed[$stack]} GiB of disk, $PWD has $free: free some, or clone to a larger disk"

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check ${PIP_ARGS:-} "$@"; }
echo "setup: the pinned $stack stack goes into $venv, which takes some minutes"
if [ "$stack" = cpu ]; then
  # torch with what its build needs (nothing for a CPU build, CUDA's libraries for PyPI's), the rest as locked.
  # setuptools and wheel come from cpu.in: pip freeze, which wrote cpu.txt, leaves them out.
  install $(grep -E '^(torch==|setuptools==|wheel)' requirements/cpu.in)
  # DeepSpeed is a source package: built apart, for beside torch its build goes wrong before it goes right.
  install --no-deps --use-pep517 -r requirements/cpu.txt -r requirements/cpu-nodeps.txt
  install -r requirements/dev.txt
else
  install --no-deps -r requirements/gpu.txt
  install -r requirements/dev.txt  # flash-attn is an extra: make flash-attn
fi
# An image copies requirements/ alone first, for a layer that a change of code does not spoil.
[ ! -f setup.py ] || install --no-deps --no-build-isolation --editable .
