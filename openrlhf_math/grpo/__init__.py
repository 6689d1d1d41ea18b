"""Reference-free GRPO: what is plugged into OpenRLHF's Ray actors, and the driver that composes it."""
