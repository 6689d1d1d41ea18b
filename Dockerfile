# Two targets of one shape: `cpu` runs the demo anywhere, `gpu` trains on NVIDIA devices. See docs/container.md.
#
#   docker build --target cpu -t openrlhf_math:cpu .
#   docker run --rm --shm-size 2g openrlhf_math:cpu
#
#   docker build --target gpu -t openrlhf_math:gpu .
#   docker run --rm --gpus all --ipc=host --ulimit nofile=65536 openrlhf_math:gpu
#
# Weights pass from the trainer to vLLM through shared memory, of which a container has 64 MB by default: hence --shm-size,
# or --ipc=host, which NCCL between several devices needs as well.

# Any base whose apt-get has Python 3.11, 3.12 or 3.13 will do: Debian 12 and 13, Ubuntu 24.04.
ARG CPU_BASE=debian:bookworm
# CUDA's major version must be that of PyTorch's wheel (13.0): DeepSpeed's kernels are compiled against it.
ARG GPU_BASE=nvidia/cuda:13.0.2-devel-ubuntu24.04


FROM ${CPU_BASE} AS cpu
# For every pip install. PyTorch's own index has a CPU build, a tenth of the size of PyPI's CUDA build:
#   --build-arg PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
ARG PIP_ARGS=""
ARG DEBIAN_FRONTEND=noninteractive
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
WORKDIR /workspace
CMD ["openrlhf-math", "demo"]

RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates g++ libnuma1 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*

# The stack comes before the code, so that a change of code does not reinstall it.
COPY requirements /opt/openrlhf_math/requirements
RUN /opt/openrlhf_math/requirements/install.sh cpu /opt/venv

COPY . /opt/openrlhf_math
RUN pip install --no-deps --no-build-isolation /opt/openrlhf_math && rm -rf /opt/openrlhf_math/build


# Not built or run yet: to run it takes an NVIDIA device.
FROM ${GPU_BASE} AS gpu
ARG PIP_ARGS=""
ARG DEBIAN_FRONTEND=noninteractive
# flash-attn is an extra, for ring attention: --build-arg FLASH_ATTN=1. It is compiled for these architectures (A100,
# H100, B200), by so many compilers at a time, 5 GB each.
ARG FLASH_ATTN=""
ARG FLASH_ATTN_CUDA_ARCHS="80;90;100"
ARG MAX_JOBS=8
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 CUDA_HOME=/usr/local/cuda
WORKDIR /workspace
CMD ["openrlhf-math", "doctor"]

RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*

COPY requirements /opt/openrlhf_math/requirements
RUN /opt/openrlhf_math/requirements/install.sh gpu /opt/venv
RUN [ -z "$FLASH_ATTN" ] \
 || pip install --no-deps --no-build-isolation $PIP_ARGS -r /opt/openrlhf_math/requirements/gpu-flash-attn.txt

COPY . /opt/openrlhf_math
RUN pip install --no-deps --no-build-isolation /opt/openrlhf_math && rm -rf /opt/openrlhf_math/build
