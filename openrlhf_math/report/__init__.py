"""A report on runs: one page that opens from disk, and a Markdown table, from the directories of runs."""
