"""Checkpoints that are complete or absent, and are verified before anything is read from them."""
