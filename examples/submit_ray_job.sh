#!/usr/bin/env bash
# Submit a run to a Ray cluster as a job. The nodes need openrlhf_math installed, nothing else.
# Usage: RAY_ADDRESS=http://HEAD:8265 examples/submit_ray_job.sh COMMAND [ARGUMENTS]
# e.g.   examples/submit_ray_job.sh openrlhf-math grpo --actor.model_name_or_path ... --math.run_dir /shared/run
set -euo pipefail

fail() { echo "submit_ray_job: $*" >&2; exit 2; }

address="${RAY_ADDRESS:-http://127.0.0.1:8265}"
[ $# -gt 0 ] || fail "give the command that the job runs, as in: $0 openrlhf-math grpo --model ..."
[[ "$address" == http://* || "$address" == https://* ]] ||
  fail "RAY_ADDRESS is $address: jobs are submitted to the head's dashboard, as in http://HEAD:8265"
command -v ray >/dev/null || fail "ray is not on PATH: activate the environment that has it, as in: . .venv/bin/activate"
# Asked first: without a cluster `ray job submit` waits, then prints its own traceback.
python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/api/version", timeout=10)' "$address" 2>/dev/null ||
  fail "no Ray cluster answers at $address: start one (examples/ray_cluster.sh head), or set RAY_ADDRESS to its dashboard"
ray job submit --address "$address" -- "$@"
