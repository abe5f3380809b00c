package io.github.pannslitert

/** Base class of all errors of this library. The message says what was wrong, what was expected and what to do. */
sealed class PannsLitertException(message: String, cause: Throwable? = null) : RuntimeException(message, cause)

/** A front-end specification or a mel basis is invalid or not implemented. */
class SpecException(message: String) : PannsLitertException(message)

/** Samples or a sample rate cannot be used. */
class AudioException(message: String) : PannsLitertException(message)

/** Settings or scores of event detection are out of range, or time steps are out of order. */
class EventException(message: String) : PannsLitertException(message)

/** A class name is unknown or repeated, or a setting of the processing of scores is out of range. */
class LabelException(message: String) : PannsLitertException(message)

/** A file of prototypes is damaged or of another model, or an embedding cannot be compared. */
class PrototypeException(message: String, cause: Throwable? = null) : PannsLitertException(message, cause)

/** A bundle is incomplete, altered or of an unknown format. */
class BundleException(message: String, cause: Throwable? = null) : PannsLitertException(message, cause)

/** A device record is damaged, of another format or of another device. */
class RecordException(message: String, cause: Throwable? = null) : PannsLitertException(message, cause)

/** Settings are invalid, of another model, or cannot be read. */
class SettingsException(message: String, cause: Throwable? = null) : PannsLitertException(message, cause)

/** An engine fails its self-test, its outputs do not match the manifest, or a setting of a tagger is out of range. */
class EngineException(message: String) : PannsLitertException(message)

/** A microphone cannot be used, or can no longer be used. [problem] says why, for an app with texts of its own. */
class MicrophoneException(val problem: Problem, message: String, cause: Throwable? = null) :
    PannsLitertException(message, cause) {
    enum class Problem {
        /** The user has not permitted it. */
        NO_PERMISSION,

        /** An app in the background may not begin to listen. */
        IN_BACKGROUND,

        /** There is none. */
        NO_MICROPHONE,

        /** It cannot be opened, for example because another app has it. */
        BUSY,

        /** It was lost while it recorded, and did not come back. */
        LOST,
    }
}
