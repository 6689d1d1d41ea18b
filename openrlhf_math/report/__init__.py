"""What the directories of runs say: a page that opens from disk, Markdown tables, and the state of each run."""
