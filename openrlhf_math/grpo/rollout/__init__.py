"""From prompts to graded completions: the rollout actors and what the trainer asks of them."""
