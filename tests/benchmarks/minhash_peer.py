"""datatrove's MinHash over the rows of a JSONL file; runs in the peer's environment (see peers.py).

    python minhash_peer.py rows.jsonl folder

With its published default: 14 buckets of 8 hashes over 5-grams of words. Prints as JSON the numbers of the lines that
it drops, from 0, and the seconds it took.
"""

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader


class Numbers(PipelineStep):
    """Notes which documents are left."""

    name = "numbers"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def run(self, data, rank: int = 0, world_size: int = 1):
        kept = [int(document.id.rpartition("/")[2]) for document in data]
        self.path.write_text(json.dumps(kept))
        yield from ()


def main(rows: Path, folder: Path) -> None:
    config = MinhashConfig()
    reader = JsonlReader(str(rows.parent), glob_pattern=rows.name, text_key="problem")
    started = time.perf_counter()
    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    for tasks, pipeline in (
        (1, [reader, MinhashDedupSignature(output_folder=signatures, config=config)]),
        (config.num_buckets, [MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)]),
        (1, [MinhashDedupCluster(input_folder=buckets, output_folder=removed, config=config)]),
        (1, [reader, MinhashDedupFilter(input_folder=removed), Numbers(folder / "kept.json")]),
    ):
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1).run()
    seconds = time.perf_counter() - started
    kept = set(json.loads((folder / "kept.json").read_text()))
    count = sum(1 for _ in rows.open())
    print(json.dumps({"seconds": seconds, "dropped": [row for row in range(count) if row not in kept]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
