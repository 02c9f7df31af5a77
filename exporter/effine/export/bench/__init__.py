"""Benchmarks against PyTorch eager: a step, an epoch, and what training reaches."""
