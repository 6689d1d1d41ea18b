"""The columns of a curated data set, as they are written to Parquet."""

import pyarrow as pa

# What is written: the row, then its place. `also_in` lists the duplicates that were dropped for it, as
# "source: file, row".
COLUMNS = pa.schema(
    [
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("solution", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("origin", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
        pa.field("difficulty", pa.float64()),
        pa.field("trace", pa.string()),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("also_in", pa.list_(pa.string()), nullable=False),
    ]
)
