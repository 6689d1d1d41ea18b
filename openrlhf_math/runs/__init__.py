"""What a long command keeps in its folder: who is at work, the journal, records, progress."""
