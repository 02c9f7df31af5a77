"""Errors a user can act on."""

from effine.runtime.errors import EffineError


class ExportError(EffineError):
    """The export can't be done as asked; the message names the option and the remedy."""


class NoProgressError(ExportError):
    """The loss doesn't fall in PyTorch's golden run, so replaying it would prove nothing."""
