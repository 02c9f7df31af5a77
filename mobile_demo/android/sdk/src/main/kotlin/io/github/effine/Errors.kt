package io.github.effine

/** Base of everything that goes wrong; the message is one line and says what to do. */
open class EffineError(message: String, cause: Throwable? = null) : Exception(message, cause)

/** An artifact is damaged, incomplete, newer than this version, or not an artifact. */
class ArtifactError(message: String, cause: Throwable? = null) : EffineError(message, cause)

/** Data can't be used; the message names the example or the file. */
class DataError(message: String, cause: Throwable? = null) : EffineError(message, cause)

/** A tensor file is malformed or holds values that can't be used. */
class StateError(message: String, cause: Throwable? = null) : EffineError(message, cause)

/** A checkpoint can't be read, or resuming from it would not continue the same run. */
open class CheckpointError(message: String, cause: Throwable? = null) : EffineError(message, cause)

/** A checkpoint belongs to another artifact; the message names what differs. */
class IncompatibleCheckpoint(message: String) : CheckpointError(message)

/** A program can't be loaded or run. */
class EngineError(message: String, cause: Throwable? = null) : EffineError(message, cause)

/** Another training has what this one needs; try again when it has ended. */
class BusyError(message: String) : EffineError(message)

/** A document isn't what its reader expects; callers name the file. */
internal class FormatError(message: String) : Exception(message)
