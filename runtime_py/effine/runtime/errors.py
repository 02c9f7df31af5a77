"""Errors a user can act on: each message names the file, line or option and the remedy."""


class EffineError(Exception):
    """Base of every error that the command line shows as one line."""


class ArtifactError(EffineError):
    """An artifact is damaged, incomplete, newer than this version, or not an artifact."""


class DataError(EffineError):
    """A data file can't be used; the message names the file and the line."""


class StateError(EffineError):
    """A tensor file is malformed or holds values that can't be used."""


class CheckpointError(EffineError):
    """A checkpoint can't be read, or resuming from it would not continue the same run."""


class IncompatibleCheckpoint(CheckpointError):
    """A checkpoint belongs to another artifact; the message names what differs."""


class EngineError(EffineError):
    """A program can't be loaded or run."""
