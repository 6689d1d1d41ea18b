#!/usr/bin/env bash
# Hand a run to a Ray cluster as a job. The nodes need openrlhf_math installed, nothing else.
# Usage: RAY_ADDRESS=http://HEAD:8265 examples/submit_ray_job.sh COMMAND [ARGUMENTS]
# e.g.   examples/submit_ray_job.sh openrlhf-math grpo --actor.model_name_or_path ... --math.run_dir /shared/run
set -euo pipefail

ray job submit --address "${RAY_ADDRESS:-http://127.0.0.1:8265}" -- "$@"
