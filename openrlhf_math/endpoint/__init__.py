"""Models behind OpenAI-compatible endpoints: one client for teachers, samplers, verifiers and judges."""
