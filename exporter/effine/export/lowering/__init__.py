"""Lowering: a captured graph becomes an ExecuTorch program."""
