package io.github.pannslitert.demo

import io.github.pannslitert.MicrophoneException
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.measure.Run
import io.github.pannslitert.tagging.LiveProgress
import io.github.pannslitert.tagging.Tag
import java.io.File

/** A bundle on this device: one that [isInstalled] by install_bundle.sh, or else a part of the app. */
data class BundleChoice(val name: String, val isInstalled: Boolean) {
    /** Tells it from all others, also in another process. */
    val id: String get() = if (isInstalled) "installed/$name" else "app/$name"
}

/** A microphone to choose. [id] is Android's number of the device. */
data class MicrophoneChoice(val id: Int, val name: String)

/** Whether the chosen bundle can be used. */
enum class Model { NONE, OPENING, READY, FAILED }

/** What the app is doing. Only one of these at a time; each can be stopped. */
sealed interface Work {
    /**
     * Listening to the microphone.
     *
     * @property progress null until the first sound
     * @property microphone name of the microphone that is used; null if Android does not say
     * @property isSilenced whether Android gives zeros, because a call or another app has the microphone
     * @property isInterrupted whether another app plays sound or a call goes on
     * @property isEnding whether the microphone is off and only what was heard before is still being tagged
     */
    data class Listening(
        val progress: LiveProgress? = null,
        val microphone: String? = null,
        val isSilenced: Boolean = false,
        val isInterrupted: Boolean = false,
        val isEnding: Boolean = false,
    ) : Work

    /**
     * Reading a recording, first for its tags, then for its events: as far as [seconds], of [of] seconds if that is
     * known.
     */
    data class Reading(val forEvents: Boolean = false, val seconds: Double = 0.0, val of: Double? = null) : Work

    /** Measuring; [setting] is the name of the engine, null before the first. */
    data class Measuring(val setting: String? = null) : Work
}

/** What a button beside a notice does. */
enum class Action { ALLOW_MICROPHONE, OPEN_SETTINGS, LISTEN, OPEN_MODEL }

/** A message of the screen, with what the user can do about it. */
sealed class Notice(val isError: Boolean, val action: Action? = null) {
    data object NoBundle : Notice(isError = true)
    data object NoEngine : Notice(isError = true)
    data class NotOpened(val why: String) : Notice(isError = true, Action.OPEN_MODEL)
    data object WhyMicrophone : Notice(isError = false, Action.ALLOW_MICROPHONE)
    data object MicrophoneDenied : Notice(isError = true, Action.OPEN_SETTINGS)
    data object ListeningEnded : Notice(isError = false, Action.LISTEN)
    data class MicrophoneFailed(val problem: MicrophoneException.Problem) : Notice(isError = true, Action.LISTEN)
    data class ListeningFailed(val why: String) : Notice(isError = true, Action.LISTEN)
    data class FileFailed(val why: String) : Notice(isError = true)
    data class MeasuringFailed(val why: String) : Notice(isError = true)
    data class Measured(val runs: List<Run>, val failures: List<String>) : Notice(isError = failures.isNotEmpty())
    data object Cancelled : Notice(isError = false)
    data object NobodyToShareWith : Notice(isError = true)
    data object NoPicker : Notice(isError = true)
}

/** What the newest result took: [fallback] is why it was not the requested accelerator, null if it was. */
data class Times(val backend: String, val frontEndMs: Double, val modelMs: Double, val fallback: String?)

/**
 * What was heard of a stream or a recording.
 *
 * @property isFile whether it is a recording; then the timeline shows all of it
 * @property seconds how much there was
 * @property windowsSkipped how many windows were not tagged
 * @property skipped why the first of them was not; null if all were
 * @property damage why the rest of a recording could not be read; null if all of it was
 */
data class Heard(
    val isFile: Boolean = false,
    val tags: List<Tag> = emptyList(),
    val timeline: Timeline = Timeline(),
    val times: Times? = null,
    val seconds: Double = 0.0,
    val lostSeconds: Double = 0.0,
    val windowsSkipped: Int = 0,
    val skipped: String? = null,
    val damage: String? = null,
)

/**
 * Everything that the screen shows. The functions return the state after an event; they do nothing else.
 *
 * @property opening number of the newest attempt to open a bundle: results of earlier ones are of no interest
 * @property attempts self-tests of the chosen bundle, in the order of preference
 * @property windowSeconds length of the model's window; 0 if none is open
 * @property record file with the measurements, to share; null if nothing was measured
 */
data class State(
    val bundles: List<BundleChoice> = emptyList(),
    val chosen: BundleChoice? = null,
    val microphones: List<MicrophoneChoice> = emptyList(),
    val microphone: MicrophoneChoice? = null,
    val model: Model = Model.NONE,
    val opening: Int = 0,
    val attempts: List<EngineChoice.Attempt> = emptyList(),
    val windowSeconds: Double = 0.0,
    val work: Work? = null,
    val notice: Notice? = null,
    val heard: Heard? = null,
    val record: File? = null,
) {
    val isListening: Boolean get() = work is Work.Listening

    /** Whether the microphone is off, and the last windows are still being tagged. */
    val isEnding: Boolean get() = work is Work.Listening && work.isEnding

    /** Whether listening, reading a file and measuring can begin. */
    val canBegin: Boolean get() = model == Model.READY && work == null

    /** Whether there is a button to cancel. Listening has one to stop. */
    val canCancel: Boolean get() = work is Work.Reading || work is Work.Measuring

    /** Whether the microphone gives nothing but zeros, and nobody has said why. */
    val isSilent: Boolean
        get() = work is Work.Listening && !work.isSilenced && (work.progress?.silentSeconds ?: 0.0) >= LONG_SILENCE

    /** The bundles on the device were looked up. The chosen one goes if it was removed. */
    fun listed(found: List<BundleChoice>): State {
        val left = copy(bundles = found, notice = notice.takeIf { it != Notice.NoBundle })
        if (chosen in found) return left
        return left.copy(
            chosen = null,
            model = Model.NONE,
            attempts = emptyList(),
            work = null,
            notice = if (found.isEmpty()) Notice.NoBundle else left.notice,
        )
    }

    /** A bundle is being opened. Whatever was done with another one is over; [notice] says so, if need be. */
    fun opens(bundle: BundleChoice, notice: Notice? = null) = copy(
        chosen = bundle,
        model = Model.OPENING,
        opening = opening + 1,
        attempts = emptyList(),
        windowSeconds = 0.0,
        work = null,
        notice = notice,
        heard = null,
        record = record.takeIf { bundle == chosen },
    )

    /** The attempt to open a bundle has a result: a model if an engine passed its self-test. */
    fun opened(opening: Int, attempts: List<EngineChoice.Attempt>, windowSeconds: Double?) = ifNewest(opening) {
        val ready = windowSeconds != null
        copy(
            model = if (ready) Model.READY else Model.FAILED,
            attempts = attempts,
            windowSeconds = windowSeconds ?: 0.0,
            notice = if (ready) notice else Notice.NoEngine,
        )
    }

    /** The attempt to open a bundle has failed. */
    fun notOpened(opening: Int, why: String) =
        ifNewest(opening) { copy(model = Model.FAILED, notice = Notice.NotOpened(why)) }

    /** The model was closed. It is opened again when the screen is visible again. */
    fun closed() = copy(model = Model.NONE, opening = opening + 1, work = null, heard = null)

    private fun ifNewest(opening: Int, change: State.() -> State) = if (opening == this.opening) change() else this

    /** Listening, reading or measuring begins. */
    fun begins(work: Work) = copy(
        work = work,
        notice = null,
        heard = if (work is Work.Measuring) heard else null,
        record = if (work is Work.Measuring) null else record,
    )

    /** Listening goes on, with a change. */
    fun listening(change: Work.Listening.() -> Work.Listening) =
        if (work is Work.Listening) copy(work = work.change()) else this

    /** What was heard has changed. */
    fun heard(change: Heard.() -> Heard) = copy(heard = heard?.change())

    /** The work is over, with a message or without. */
    fun ends(notice: Notice? = null) = copy(work = null, notice = notice, heard = heard?.takeIf { it.seconds > 0.0 })

    /** The microphones were looked up. If the chosen one was unplugged, the choice is automatic again. */
    fun withMicrophones(found: List<MicrophoneChoice>) =
        copy(microphones = found, microphone = microphone?.takeIf { it in found })

    private companion object {
        const val LONG_SILENCE = 3.0 // seconds
    }
}
