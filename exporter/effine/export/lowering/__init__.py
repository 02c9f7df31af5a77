"""Lowering: captured graphs become programs for a target."""
