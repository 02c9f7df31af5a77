"""Errors a user can act on."""

from effine.runtime.errors import EffineError


class ExportError(EffineError):
    """The export can't be done as asked; the message names the option and the remedy."""
