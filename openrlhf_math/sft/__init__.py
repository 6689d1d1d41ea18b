"""Supervised fine-tuning on reasoning traces, with OpenRLHF's trainer."""
