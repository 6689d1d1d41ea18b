"""Problem sets are read, filtered, deduplicated, decontaminated, and written as one dataset.

`surroundings`, `lexemes`, `structure` and `normalise` make the form of a problem that is compared; `alike` proposes
pairs and judges them, and `decontaminate` looks for benchmark problems. `filters` are functions on rows. `reading`,
`matching` and `writing` are the tasks, each from files to files; `pipeline` runs them. The layouts of the sets are in
`data.sources`.
"""
