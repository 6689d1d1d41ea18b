"""Problem sets read, filtered, freed of duplicates and of benchmark problems, and written as one dataset.

`normalise`, `near_duplicates`, `decontaminate`, `filters` and `sources` are pure functions on rows and text;
`tasks` does one piece of the work from files to files; `pipeline` runs them, through Ray Data where it pays.
"""
