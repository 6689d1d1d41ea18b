"""The poster's experiments in miniature: what is made of their runs, as figures and tables.

Who runs them is `cli/experiment_runs.py`; here nothing is trained. Only `speed.py` starts an engine, to time it.
"""
