"""Training and inference on the same devices: thread and device layout, weight transfer."""
