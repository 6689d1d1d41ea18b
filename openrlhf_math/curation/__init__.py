"""Problem sets read, filtered, freed of duplicates and of benchmark problems, and written as one dataset.

`normalise`, `near_duplicates`, `decontaminate`, `filters` and `sources` are pure functions on rows and text. `reading`,
`matching` and `writing` are the tasks, each from files to files; `pipeline` runs them, `parallel` through Ray Data.
"""
