"""The poster's experiments in miniature: what is made of their runs, as figures and tables.

`cli/experiment_runs.py` runs them; nothing is trained here. Only `speed.py` starts an engine, to time it.
"""
