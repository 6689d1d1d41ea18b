"""The poster's experiments in miniature: what is made of their runs, as figures and tables.

`cli/experiment_runs.py` runs them; nothing is trained here, and no engine starts.
"""
