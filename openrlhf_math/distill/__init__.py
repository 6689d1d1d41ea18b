"""Reasoning distillation: fine-tuning a student on verified chains of thought."""
