"""Benchmarks against rivals: times, sizes, and what training reaches."""
