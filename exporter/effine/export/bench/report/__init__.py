"""BENCHMARKS.md: `page` makes it, each other file a section or a part of one."""
