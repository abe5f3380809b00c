package io.github.pannslitert

/** Root of every error that is raised on purpose; its message says what was wrong, what was expected and what to do. */
sealed class PannsLitertException(message: String, cause: Throwable? = null) : RuntimeException(message, cause)

/** A front-end specification or a mel basis is not valid, or not one that is implemented. */
class SpecException(message: String) : PannsLitertException(message)

/** Samples or a sample rate cannot be used. */
class AudioException(message: String) : PannsLitertException(message)

/** Settings or scores of events are out of range, or steps are out of order. */
class EventException(message: String) : PannsLitertException(message)

/** A bundle is incomplete, altered or of an unknown format. */
class BundleException(message: String, cause: Throwable? = null) : PannsLitertException(message, cause)

/** A device record is damaged, of another format or of another device. */
class RecordException(message: String, cause: Throwable? = null) : PannsLitertException(message, cause)

/** An engine does not fit its bundle, or its outputs are not what the manifest promises. */
class EngineException(message: String) : PannsLitertException(message)
