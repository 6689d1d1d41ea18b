#!/usr/bin/env bash
# Qwen2.5-32B on verified traces of up to 16k tokens, on 4 nodes with 8 GPUs of 80 GiB each: ZeRO-3, rows
# without padding. The run directory must be on a shared file system.
# Run it on every node at once, e.g. under Slurm:
#   srun --nodes 4 --ntasks-per-node 1 bash -c \
#     'NODES=4 NODE_RANK=$SLURM_NODEID HEAD=$(scontrol show hostnames $SLURM_NODELIST | head -1) \
#      examples/sft_qwen2.5_32b_multinode.sh --ckpt.load_enable'
# With --ckpt.load_enable the same command begins the run, and resumes it after a kill.
# Usage: TRACES=runs/distill_r1/dataset [STUDENT=path] examples/sft_qwen2.5_32b_multinode.sh [MORE FLAGS, e.g. --dry-run]
set -euo pipefail
nodes="${NODES:-4}" gpus="${GPUS:-8}"

# A dry run starts nothing: one process that knows how many there would be.
launch=(torchrun --nnodes "$nodes" --nproc-per-node "$gpus" --node-rank "${NODE_RANK:-0}"
  --master-addr "${HEAD:-127.0.0.1}" --master-port "${PORT:-29500}" -m openrlhf_math)
case " $* " in *" --dry-run "*) launch=(env "WORLD_SIZE=$((nodes * gpus))" python -m openrlhf_math) ;; esac

"${launch[@]}" sft \
  --model.model_name_or_path "${STUDENT:-Qwen/Qwen2.5-32B-Instruct}" \
  --data.dataset "${TRACES:-runs/distill_r1/dataset}" \
  --math.device cuda --math.run_dir runs/sft-qwen2.5-32b \
  --data.max_len 16384 \
  --ds.zero_stage 3 --ds.adam_offload --model.gradient_checkpointing_enable \
  --train.batch_size 128 --train.micro_batch_size 1 --train.max_epochs 3 \
  --adam.lr 1e-5 --lr_warmup_ratio 0.05 \
  --ckpt.save_steps 50 --ckpt.max_num 2 \
  "$@"
