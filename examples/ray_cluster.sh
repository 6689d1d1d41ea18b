#!/usr/bin/env bash
# A Ray cluster on plain machines, and runs on it as jobs. Every machine has openrlhf_math in the same place, and all see
# the run directories on a shared file system.
#   on the first machine      examples/ray_cluster.sh head
#   on every other one        examples/ray_cluster.sh join HEAD
#   on the first again        examples/ray_cluster.sh submit NAME openrlhf-math grpo ... --math.run_dir /shared/NAME
#                             examples/ray_cluster.sh logs NAME      (follows it; it ends with the job)
#                             examples/ray_cluster.sh end NAME       (SIGTERM, and ten minutes to save the step)
#   on each, when all is done examples/ray_cluster.sh stop
# A job that ended early, for instance as a machine was lost, resumes when the machine has joined again: submit it
# under another NAME with --ckpt.load_enable.
# Environment: DEVICES (GPUs of this machine; without GPUs logical devices, all of a run's on one machine), PORT (6379),
# DASHBOARD_PORT (8265). Who reaches these ports can run code here: keep them in a private network.
set -euo pipefail

port="${PORT:-6379}"
jobs=(--address "http://127.0.0.1:${DASHBOARD_PORT:-8265}")
devices=()
if [[ -n "${DEVICES:-}" ]]; then
  devices=(--num-gpus="$DEVICES")
fi

case "${1:-}" in
  head)
    export RAY_JOB_STOP_WAIT_TIME_S=600 # else 3
    ray start --head --port="$port" --dashboard-host=127.0.0.1 --dashboard-port="${DASHBOARD_PORT:-8265}" \
      ${devices[@]+"${devices[@]}"}
    ;;
  join) ray start --address="${2:?the address of the head}:$port" ${devices[@]+"${devices[@]}"} ;;
  submit) ray job submit "${jobs[@]}" --no-wait --submission-id "${2:?a name}" -- "${@:3}" ;;
  logs) ray job logs "${jobs[@]}" --follow "${2:?the name of a job}" ;;
  end) ray job stop "${jobs[@]}" "${2:?the name of a job}" ;;
  stop) ray stop ;;
  *)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
