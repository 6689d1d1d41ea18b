#!/usr/bin/env bash
# Resolve a stack for all supported Pythons at once and write its lock, requirements/STACK.txt, from STACK.in.
# Usage: requirements/lock.sh cpu|gpu          what is locked stays as it is where it can; UPGRADE=1 takes the newest
#        requirements/lock.sh check cpu|gpu    exit code 2 where the lock is not what would be written
# uv resolves; where it is not on PATH, pip gets it for this once. UV_ARGS="--index ..." goes to the resolver.
set -euo pipefail
cd "$(dirname "$0")/.."
supported="3.11 3.12 3.13"  # as requirements/install.sh and openrlhf_math/doctor/software.py have it

fail() { echo "lock: $*" >&2; exit 2; }
check=""
[ "${1:-}" != check ] || { check=1; shift; }
stack="${1:-}"
[ -f "requirements/$stack.in" ] || fail "the stack is 'cpu' or 'gpu', not '$stack'"
lock="requirements/$stack.txt"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check packaging $(command -v uv >/dev/null || echo uv)
uv="$(command -v uv || echo "$scratch/venv/bin/uv")"

# flash-attn, which OpenRLHF asks for, is an extra.
echo "flash-attn ; python_version < '3'" >"$scratch/without"
[ -n "${UPGRADE:-}" ] || sed '/^#/d' "$lock" >"$scratch/resolved"
"$uv" pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --strip-extras ${UV_ARGS:-} \
  --override "$scratch/without" --output-file "$scratch/resolved" "requirements/$stack.in"

# Of what is resolved for all systems, what Linux on x86-64 wants. A CPU has no use for CUDA's libraries, which PyPI's
# torch brings along in its own time, nor for triton, which only makes vLLM warn that it cannot use it.
"$scratch/venv/bin/python" - "$scratch/resolved" "$stack" "$supported" >"$scratch/pins" <<'PY'
import re, sys
from packaging.requirements import Requirement

resolved, stack, supported = sys.argv[1:]
NOT_ON_A_CPU = re.compile(r"triton|cuda-.*|nvidia-(cu|nc|nv).*")
LINUX = {
    "implementation_name": "cpython", "os_name": "posix", "platform_machine": "x86_64", "platform_system": "Linux",
    "platform_python_implementation": "CPython", "sys_platform": "linux",
}
pins = {}  # the pythons of each pin
for line in open(resolved):
    one = Requirement(line.strip())
    for python in supported.split():
        environment = LINUX | {"python_version": python, "python_full_version": f"{python}.99"}
        if one.marker is None or one.marker.evaluate(environment):
            pins.setdefault(f"{one.name}{one.specifier}", []).append(python)
for pin, pythons in sorted(pins.items(), key=lambda pair: pair[0].partition("==")[0]):
    if stack == "cpu" and NOT_ON_A_CPU.fullmatch(pin.partition("==")[0]):
        continue
    some = " or ".join(f"python_version == '{python}'" for python in pythons)
    print(pin if pythons == supported.split() else f"{pin} ; {some}")
PY
{ grep -E '^#' "$lock"; cat "$scratch/pins"; } >"$scratch/lock"
if [ -n "$check" ]; then
  diff -U0 "$lock" "$scratch/lock" >"$scratch/diff" && exit
  sed 1,2d "$scratch/diff"
  fail "$lock is not what would be written now"
fi
cp "$scratch/lock" "$lock"
