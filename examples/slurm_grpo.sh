#!/usr/bin/env bash
# A GRPO run under Slurm: Ray on the nodes of the allocation, the run on the first of them.
# Usage: sbatch examples/slurm_grpo.sh [MORE FLAGS]         (from the top of the repository, on a shared file system)
#        RUN=examples/grpo_qwen2.5_1.5b_gsm8k.sh sbatch --nodes=1 examples/slurm_grpo.sh
#        examples/slurm_grpo.sh --dry-run                   (what it would ask for, without Slurm)
# RUN is any of the scripts here that take more flags. Before its time is up Slurm sends SIGTERM: the step is saved and
# the job queued again, which resumes from there, as it does after a node was lost (--requeue).
#SBATCH --job-name=grpo
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@600
#SBATCH --output=%x-%j.out
set -euo pipefail

here="${SLURM_SUBMIT_DIR:+$SLURM_SUBMIT_DIR/examples}" # Slurm runs a copy of this file from another place
run="${RUN:-${here:-$(dirname "$0")}/grpo_qwen2.5_32b_multinode.sh}"
if [[ -z "${SLURM_JOB_ID:-}" ]]; then
  if [[ " $* " == *" --dry-run "* ]]; then
    exec "$run" "$@"
  fi
  echo "submit this with sbatch, or look at it with --dry-run" >&2
  exit 2
fi

head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a node
export RAY_ADDRESS="$head:$port"

srun --nodes=1 --ntasks=1 --overlap -w "$head" \
  ray start --head --port="$port" --include-dashboard=false --num-gpus="${SLURM_GPUS_ON_NODE:-8}" --block &
until srun --nodes=1 --ntasks=1 --overlap -w "$head" ray status --address "$RAY_ADDRESS" >/dev/null 2>&1; do sleep 2; done
if ((SLURM_NNODES > 1)); then
  srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --overlap --exclude="$head" \
    ray start --address="$RAY_ADDRESS" --num-gpus="${SLURM_GPUS_ON_NODE:-8}" --block &
fi

nodes='import ray; ray.init(logging_level="error"); print(sum(node["Alive"] for node in ray.nodes()))'
until (($(python -c "$nodes") >= SLURM_NNODES)); do sleep 2; done

# This is the first node. A session of its own, so that a signal reaches the command behind the script, too.
setsid "$run" --ckpt.load_enable "$@" &
training=$!
stopped=
trap 'stopped=1; kill -TERM -- "-$training"' TERM
code=0
wait "$training" || code=$?
if [[ -n "$stopped" ]]; then
  while kill -0 -- "-$training" 2>/dev/null; do sleep 1; done # the step is brought to its end and saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
