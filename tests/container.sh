#!/usr/bin/env bash
# Builds and runs the image's `cpu` target for real, without Docker: Debian's debootstrap makes the base and buildah
# the rest. Also tries the set-up in a bare Debian, with things missing and with just what it asks for. Not part of
# `make test`: it takes half an hour, 20 GB of disk and root. See docs/container.md.
#
# Usage: tests/container.sh [faults] [fresh] [build] [run]      all, if none is named
#   faults  in a bare Debian: what the set-up says without Python, a compiler, headers, a library, disk
#   fresh   in a bare Debian with what the set-up asks for and no more: make demo
#   build   the image
#   run     the image's default command, and the doctor in it
#
# From the caller's environment:
#   PIP_ARGS           as for requirements/install.sh, e.g. an index of CPU builds
#   CONTAINER_VOLUMES  HOST:CONTAINER[:ro] ..., mounted while building, e.g. a folder of wheels that PIP_ARGS names
#   CONTAINER_ROOT     where everything goes; removed at the end unless it was given
#   STORAGE_DRIVER     buildah's; left alone it takes overlay where the kernel has it, else vfs
set -euo pipefail
cd "$(dirname "$0")/.."
parts=${*:-faults fresh build run}
work=${CONTAINER_ROOT:-$(mktemp -d /var/tmp/container.XXXXXX)}
export BUILDAH_ISOLATION=chroot
buildah=(buildah --root "$work/storage" --runroot "$work/runroot" ${STORAGE_DRIVER:+--storage-driver "$STORAGE_DRIVER"})
failures=0
volumes=()
for volume in ${CONTAINER_VOLUMES:-}; do volumes+=(--volume "$volume"); done

finish() {
  for mount in "$work/machine/clone" "$work/machine/proc"; do
    if mountpoint --quiet "$mount"; then umount "$mount"; fi
  done
  [ -z "${CONTAINER_ROOT:-}" ] || return
  "${buildah[@]}" rm --all >/dev/null
  "${buildah[@]}" rmi --all --force >/dev/null
  rm -rf "$work"
}
trap finish EXIT

has() { [[ " $parts " == *" $1 "* ]]; }

result() { # result STATUS WHAT
  if [ "$1" = 0 ]; then echo "passed: $2"; else echo "FAILED: $2"; failures=$((failures + 1)); fi
}

base() { # a Debian as small as debian:bookworm, once
  for tool in debootstrap buildah; do
    command -v "$tool" >/dev/null || { echo "container.sh: no $tool: apt-get install debootstrap buildah" >&2; exit 2; }
  done
  [ -d "$work/bookworm/usr" ] || debootstrap --variant=minbase bookworm "$work/bookworm" >"$work/debootstrap.log"
}

base_image() { # once
  if ! "${buildah[@]}" images -q localhost/bookworm >/dev/null 2>&1; then
    local empty
    empty=$("${buildah[@]}" from scratch)
    "${buildah[@]}" add -q "$empty" "$work/bookworm" / >/dev/null
    "${buildah[@]}" commit -q --rm "$empty" bookworm >/dev/null
  fi
}

clone_to() { # what is committed or would be; a file deleted but still listed is no matter
  mkdir "$1"
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1" 2>/dev/null || true
}

# What the set-up says on a machine that lacks one thing more than the last: one line, and nothing is downloaded.
says() { # says SENTENCE [VARIABLE=VALUE ...]
  local sentence=$1 status=0
  shift
  chroot "$work/machine" env "$@" make -s -C /clone setup >"$work/said" 2>&1 || status=$?
  # make adds its own "*** Error" to ours
  [ "$status" != 0 ] && [ "$(grep -vc '^make' "$work/said")" = 1 ] && grep -qF "$sentence" "$work/said"
  result $? "set-up says: $(grep -v '^make' "$work/said")"
}

install_there() { chroot "$work/machine" apt-get install -qq --no-install-recommends "$@" >"$work/apt.log" 2>&1; }

faults() {
  rm -rf "$work/machine"
  cp -a "$work/bookworm" "$work/machine"
  mount -t proc proc "$work/machine/proc"
  clone_to "$work/machine/clone"
  chroot "$work/machine" apt-get update -qq
  install_there make
  set +e
  says "no python3 is on PATH"
  printf '#!/bin/sh\necho 3.14\n' >"$work/machine/usr/local/bin/python3.14"
  chmod +x "$work/machine/usr/local/bin/python3.14"
  says "python3.14 is Python 3.14, for which the pinned stack has no wheels" PYTHON=python3.14
  install_there python3.11
  says "cannot make virtual environments: apt-get install python3.11-venv"
  install_there python3.11-venv
  says "no C++ compiler is on PATH"
  install_there g++
  says "has no headers (Python.h)" STACK=gpu
  says "the library libnuma.so.1 is missing"
  install_there libnuma1
  says "the stack is 'cpu' or 'gpu', not 'tpu'" STACK=tpu
  mv "$work/machine/clone" "$work/machine/whole"
  mkdir "$work/machine/clone"
  mount -t tmpfs -o size=1g tmpfs "$work/machine/clone"
  cp -a "$work/machine/whole/." "$work/machine/clone"
  says "the cpu stack needs 8 GiB of disk, /clone has 0"
  set -e
  umount "$work/machine/clone" "$work/machine/proc"
  rm -rf "$work/machine"
}

fresh() {
  base_image
  local container status=0 packages="make g++ libnuma1 python3.11 python3.11-venv ca-certificates"
  container=$("${buildah[@]}" from --ulimit "nofile=$(ulimit -Hn)" localhost/bookworm)
  clone_to "$("${buildah[@]}" mount "$container")/clone"
  "${buildah[@]}" run "$container" -- \
    sh -c "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $packages" \
    >"$work/apt.log" 2>&1
  local start=$SECONDS
  "${buildah[@]}" run "${volumes[@]}" "$container" -- make -C /clone demo PIP_ARGS="${PIP_ARGS:-}" || status=$?
  result $status "make demo on a fresh Debian, installs included, in $((SECONDS - start)) s"
  "${buildah[@]}" rm "$container" >/dev/null
}

build() {
  base_image
  local start=$SECONDS
  "${buildah[@]}" bud --layers --target cpu --build-arg CPU_BASE=localhost/bookworm --build-arg PIP_ARGS="${PIP_ARGS:-}" \
    "${volumes[@]}" -t openrlhf_math:cpu . >"$work/build.log" 2>&1 || { tail -20 "$work/build.log"; result 1 build; return; }
  result 0 "the cpu target builds, in $((SECONDS - start)) s"
}

run() {
  local container command status=0 start
  container=$("${buildah[@]}" from --ulimit "nofile=$(ulimit -Hn)" openrlhf_math:cpu)
  "${buildah[@]}" run "$container" -- openrlhf-math doctor || status=$?
  result $status "nothing is wrong inside, says the doctor"
  # The default command is asked of the image, so that this cannot drift from the Dockerfile.
  local words='{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}'
  read -r -d '' -a command < <("${buildah[@]}" inspect --type image --format "$words" openrlhf_math:cpu) || true
  start=$SECONDS status=0
  "${buildah[@]}" run "$container" -- "${command[@]}" || status=$?
  result $status "the default command, ${command[*]}, in $((SECONDS - start)) s"
  "${buildah[@]}" rm "$container" >/dev/null
}

base
for part in faults fresh build run; do if has $part; then $part; fi; done
echo "$failures failed"
[ "$failures" = 0 ]
