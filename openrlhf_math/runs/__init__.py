"""What a long command keeps in its folder: the running process, the journal, records, progress."""
