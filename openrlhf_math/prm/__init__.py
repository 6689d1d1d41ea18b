"""Process reward models: steps of solutions labelled right or wrong, and a model that learns to judge them.

Labelling, by `openrlhf-math prm label`: one of the `sources` turns `attempts` or files of labels into `rows`, and
`labelling` writes them. Training, by `openrlhf-math prm train`.
"""
