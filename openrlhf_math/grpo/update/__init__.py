"""From graded completions to a gradient: experiences, micro-batches, the loss, the policy actor."""
