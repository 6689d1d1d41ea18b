#!/usr/bin/env bash
# Serve answers of a model whose attempts a process reward model scores, and ask for one.
# Usage: examples/serve.sh [PORT]; MODEL, PRM, ATTEMPTS, SECONDS_EACH and HOST may be set.
set -euo pipefail
port="${1:-8000}" host="${HOST:-127.0.0.1}"

openrlhf-math serve \
  --model "${MODEL:-Qwen/Qwen2.5-Math-1.5B-Instruct}" \
  --scorer qwen2.5-math-prm --scorer-model "${PRM:-Qwen/Qwen2.5-Math-PRM-7B}" \
  --attempts "${ATTEMPTS:-16}" --confidence 0.95 --seconds "${SECONDS_EACH:-120}" \
  --host "$host" --port "$port" &
server=$!
trap 'kill "$server"; wait "$server"' EXIT

until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
  kill -0 "$server" || exit 1
  sleep 2
done
curl --silent "http://127.0.0.1:$port/v1/chat/completions" -H 'Content-Type: application/json' -d '{
  "messages": [{"role": "user", "content": "What is the remainder of 7^100 divided by 13?"}],
  "openrlhf_math": {"attempts": 8}
}'
echo
wait "$server"
