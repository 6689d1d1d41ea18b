"""Checks of a machine, each a small function from a finding to one row: ok, note or wrong, and the fix.

A check takes what it looks at as arguments, whose defaults are this machine, so that a test can plant a fault.
"""
