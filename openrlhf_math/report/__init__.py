"""A picture of runs: one page that opens from disk, and a Markdown table, from the directories that runs leave."""
