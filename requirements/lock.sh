#!/usr/bin/env bash
# Resolve a stack anew and write its lock, or check that each pin has a distribution for other Pythons.
# Usage: requirements/lock.sh cpu|gpu                         write requirements/STACK.txt from requirements/STACK.in
#        requirements/lock.sh check cpu|gpu PYTHON...         as in: check cpu python3.11 python3.12 python3.13
# PYTHON=python3.11 resolves; PIP_ARGS="--extra-index-url ..." goes to every pip install. Nothing else is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "lock: $*" >&2; exit 2; }
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
fresh() { "$1" -m venv "$scratch/$2" && "$scratch/$2/bin/python" -m pip install --quiet --upgrade pip ${PIP_ARGS:-}; }

check() {  # the stack, then interpreters
  stack="$1" wrong=0
  shift
  for python in "$@"; do
    command -v "$python" >/dev/null || fail "there is no $python on PATH"
    fresh "$python" "venv-${python##*/}"
    if "$scratch/venv-${python##*/}/bin/python" -m pip install ${PIP_ARGS:-} --dry-run --quiet --no-deps \
         -r "requirements/$stack.txt" 2>"$scratch/said" >/dev/null; then
      echo "$python: each pin of requirements/$stack.txt has a distribution"
    else
      echo "$python: $(grep -m1 'No matching distribution' "$scratch/said" || tail -1 "$scratch/said")"
      wrong=1
    fi
  done
  return "$wrong"
}

[ "${1:-}" != check ] || { shift; [ $# -ge 2 ] || fail "check what, for which Pythons?"; check "$@"; exit; }
stack="${1:-}"
[ -f "requirements/$stack.in" ] || fail "the stack is 'cpu' or 'gpu', not '$stack'"
fresh "${PYTHON:-python3.11}" venv
pip="$scratch/venv/bin/python -m pip"
# flash-attn, which OpenRLHF asks for, is an extra; triton only makes vLLM on a CPU warn that it cannot use it.
if [ "$stack" = cpu ]; then
  $pip install --quiet ${PIP_ARGS:-} $(grep -E '^(torch==|setuptools==|wheel)' requirements/cpu.in)
  $pip install --quiet ${PIP_ARGS:-} -r requirements/cpu.in
  $pip freeze | grep -vE '^triton==' >"$scratch/pins"
else
  $pip install --quiet ${PIP_ARGS:-} --dry-run --report "$scratch/report.json" -r requirements/gpu.in
  "$scratch/venv/bin/python" - "$scratch/report.json" >"$scratch/pins" <<'PY'
import json, sys
pins = {one["metadata"]["name"]: one["metadata"]["version"] for one in json.load(open(sys.argv[1]))["install"]}
print("\n".join(f"{name}=={pins[name]}" for name in sorted(pins, key=str.lower) if name.lower() != "flash-attn"))
PY
fi
{ grep -E '^#' "requirements/$stack.txt"; cat "$scratch/pins"; } >"$scratch/lock"
cp "$scratch/lock" "requirements/$stack.txt"
git --no-pager diff --stat -- "requirements/$stack.txt" 2>/dev/null || true
