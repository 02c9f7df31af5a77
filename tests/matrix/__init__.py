"""The matrix: parity of every method, task, backbone and target, kept in a file and a page.

`make matrix` runs it, `make lint` checks that the page says what the file holds.
"""
