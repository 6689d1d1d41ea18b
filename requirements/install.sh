#!/usr/bin/env bash
# Make the virtual environment with the pinned stack. Says in one sentence what is missing, before it downloads.
# Usage: requirements/install.sh cpu|gpu [VENV]
# PYTHON=python3.12 chooses the interpreter; PIP_ARGS="--extra-index-url ..." goes to every install.
# uv installs if it is on PATH, else pip; UV= (empty) means pip, as in: make setup UV=
set -euo pipefail
cd "$(dirname "$0")/.."
stack="${1:-cpu}" venv="${2:-.venv}" python="${PYTHON:-}" uv="${UV-$(command -v uv || true)}"
declare -A gib_needed=([cpu]=8 [gpu]=24)
supported="3.11 3.12 3.13"

fail() { echo "setup: $*" >&2; exit 2; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

[ -n "${gib_needed[$stack]:-}" ] || fail "the stack is 'cpu' or 'gpu', not '$stack'"
if [ -x "$venv/bin/python" ]; then
  there="$(version_of "$venv/bin/python" || true)" wanted="$(version_of "${python:-$venv/bin/python}" || true)"
  [ "$there" = "$wanted" ] || fail "$venv is of Python ${there:-unknown}, not ${wanted:-$python}: remove it first, or name another with VENV"
  python="$venv/bin/python"
fi
if [ -z "$python" ]; then
  for one in $supported; do
    if [ "$(version_of "python$one")" = "$one" ]; then python="python$one"; break; fi
  done
  [ -n "$python" ] || [ -z "$uv" ] || python="$("$uv" python find --no-python-downloads '>=3.11,<3.14' 2>/dev/null || true)"
  python="${python:-python3}"
fi
version="$(version_of "$python" || true)"
[ -n "$version" ] ||
  fail "no $python is on PATH: install Python 3.11, 3.12 or 3.13 (apt-get install python3 python3-venv g++ libnuma1; or uv python install 3.13), or set PYTHON to where it is"
[[ " $supported " = *" $version "* ]] ||
  fail "$python is Python $version, for which the pinned stack has no wheels: install 3.11, 3.12 or 3.13 (uv python install 3.13), or set PYTHON to where it is"
[ -n "$uv" ] || [ -x "$venv/bin/python" ] || "$python" -c 'import ensurepip' 2>/dev/null ||
  fail "$python cannot make virtual environments: apt-get install python$version-venv"
command -v "${CXX:-g++}" >/dev/null ||
  fail "no C++ compiler is on PATH, DeepSpeed and PyTorch compile kernels as they run: apt-get install g++"
[ "$stack" != gpu ] || [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
  fail "$python has no headers (Python.h), which DeepSpeed's kernels include: apt-get install python$version-dev"
[ "$stack" != cpu ] || "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
  fail "the library libnuma.so.1 is missing, which vLLM's CPU kernels are linked to: apt-get install libnuma1"
free=$(($(df --output=avail -k . | tail -1) / 1048576))
[ -x "$venv/bin/python" ] || [ "$free" -ge "${gib_needed[$stack]}" ] ||
  fail "the $stack stack needs ${gib_needed[$stack]} GiB of disk, $PWD has $free: free some, or clone to a larger disk"

if [ -n "$uv" ]; then
  [ -x "$venv/bin/python" ] || "$uv" venv --quiet --seed --python "$python" "$venv"
  install() { "$uv" pip install --quiet --python "$venv/bin/python" ${PIP_ARGS:-} "$@"; }
else
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 ${PIP_ARGS:-} "$@"; }
fi
echo "setup: the pinned $stack stack for Python $version goes into $venv${uv:+, by uv}, which takes some minutes"
pins="$(mktemp)"
trap 'rm -f "$pins"' EXIT
if [ "$stack" = cpu ]; then
  # torch with what its build needs (nothing for a CPU build, CUDA's libraries for PyPI's), the rest as locked.
  # DeepSpeed is a source package: built apart, for beside torch its build goes wrong before it goes right.
  install $(grep '^torch==' requirements/cpu.txt)
  cat requirements/cpu.txt requirements/cpu-nodeps.txt >"$pins"
else
  cp requirements/gpu.txt "$pins"
fi
if [ "$version" = 3.13 ]; then
  # OpenRLHF's wheels hold Python files alone, the same in each, but are tagged for 3.12 and older: one is put in place.
  site="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  install --no-deps --only-binary openrlhf --python-version 3.12 --target "$site" --upgrade $(grep '^openrlhf==' "$pins")
  sed -i '/^openrlhf==/d' "$pins"
fi
install --no-deps -r "$pins"
install -r requirements/dev.txt
# flash-attn is an extra: make flash-attn.
# An image copies requirements/ alone first, for a layer that a change of code does not spoil.
[ ! -f setup.py ] || install --no-deps --no-build-isolation --editable .
