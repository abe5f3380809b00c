package io.github.pannslitert.demo

import android.content.Context
import io.github.pannslitert.MicrophoneException.Problem
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.measure.Measurement

/** The state in words, in the language of the screen. */
class Texts(private val context: Context) {
    /** What is going on or wrong, to be read aloud; empty if there is nothing to say. */
    fun message(state: State): String {
        val work = state.work
        return when {
            work is Work.Listening -> when {
                work.isSilenced -> text(R.string.silenced)
                state.isSilent -> text(R.string.silent)
                work.isInterrupted -> text(R.string.interrupted)
                else -> ""
            }
            work is Work.Measuring -> work.setting?.let { text(R.string.measuring, it) }.orEmpty()
            work is Work.Reading -> text(if (work.forEvents) R.string.reading_events else R.string.reading_tags)
            else -> joined(
                state.notice?.let(::notice),
                if (state.model == Model.OPENING) text(R.string.testing) else null,
            )
        }
    }

    fun action(action: Action): String = when (action) {
        Action.ALLOW_MICROPHONE -> text(R.string.allow)
        Action.OPEN_SETTINGS -> text(R.string.settings)
        Action.LISTEN -> text(R.string.listen_again)
        Action.OPEN_MODEL -> text(R.string.try_again)
    }

    /** How much was heard. It changes every second. */
    fun status(state: State): String {
        val heard = state.heard
        return when (val work = state.work) {
            is Work.Listening -> {
                val seconds = work.progress?.seconds ?: 0.0
                if (seconds < state.windowSeconds) {
                    joined(text(R.string.first_window, seconds, state.windowSeconds), work.microphone)
                } else {
                    joined(
                        text(R.string.listening, clock(seconds)),
                        work.microphone,
                        lost(work.progress?.lostSeconds ?: 0.0),
                    )
                }
            }
            is Work.Reading -> if (work.of != null) {
                text(R.string.read_until_of, clock(work.seconds), clock(work.of))
            } else {
                text(R.string.read_until, clock(work.seconds))
            }
            else -> when {
                heard != null -> heard(heard)
                state.model == Model.NONE || state.model == Model.FAILED -> text(R.string.no_tags_without_model)
                else -> text(R.string.nothing_heard)
            }
        }
    }

    private fun heard(heard: Heard): String = joined(
        text(R.string.heard, clock(heard.seconds)),
        lost(heard.lostSeconds),
        heard.skipped?.takeIf { heard.lostSeconds == 0.0 }?.let { // lost sound has said why
            val count = heard.windowsSkipped
            context.resources.getQuantityString(R.plurals.skipped_windows, count, count, it)
        },
        heard.damage?.let { text(R.string.damaged, it) },
    )

    private fun lost(seconds: Double): String? = if (seconds > 0.0) text(R.string.lost, seconds) else null

    /** The newest events, or the first ones of a recording, one a line. */
    fun events(heard: Heard): String {
        val labels = heard.timeline.labels
        val running = heard.timeline.running.map { text(R.string.running, clock(it.value), labels[it.key]) }
        val sorted = heard.timeline.events.sortedBy { it.start }
        val shown = if (heard.isFile) sorted.take(MOST_EVENTS) else sorted.takeLast(MOST_LIVE_EVENTS).reversed()
        val over = shown.map { text(R.string.event, clock(it.start), clock(it.end), labels[it.index], it.score) }
        val more = (sorted.size - shown.size).takeIf { heard.isFile && it > 0 }
            ?.let { context.resources.getQuantityString(R.plurals.more_events, it, it) }
        return (running + over + listOfNotNull(more)).joinToString("\n")
    }

    fun times(times: Times): String = with(times) {
        val sum = text(R.string.timings, backend, frontEndMs, modelMs, frontEndMs + modelMs)
        joined(sum, fallback?.let { text(R.string.fallback, it) })
    }

    fun attempt(attempt: EngineChoice.Attempt): String = with(attempt) {
        val verdict = if (passed) text(R.string.passed, name) else text(R.string.failed, name, why)
        val figures = result?.withPytorch?.takeIf { it.maxAbs != null }
            ?.let { text(R.string.figures, it.maxAbs, it.corr, it.top5) }
        val cpu = result?.withOther?.takeIf { it.maxAbs != null }
            ?.let { text(R.string.figures_cpu, it.maxAbs, it.corr) }
        joined(verdict, figures, cpu)
    }

    fun bundle(bundle: BundleChoice): String =
        if (bundle.isInstalled) bundle.name else text(R.string.in_app, bundle.name)

    private fun notice(notice: Notice): String = when (notice) {
        Notice.NoBundle -> text(R.string.no_bundle)
        Notice.NoEngine -> text(R.string.no_engine)
        is Notice.NotOpened -> text(R.string.not_opened, notice.why)
        Notice.WhyMicrophone -> text(R.string.why_microphone)
        Notice.MicrophoneDenied -> text(R.string.microphone_denied)
        Notice.ListeningEnded -> text(R.string.listening_ended)
        is Notice.MicrophoneFailed -> problem(notice.problem)
        is Notice.ListeningFailed -> text(R.string.listening_failed, notice.why)
        is Notice.FileFailed -> text(R.string.file_failed, notice.why)
        is Notice.MeasuringFailed -> text(R.string.measuring_failed, notice.why)
        is Notice.Measured -> (notice.runs.map { run ->
            val engine = run.threads?.let { Measurement.Setting.cpu(it).toString() } ?: run.adapter.orEmpty()
            text(R.string.measured, engine, run.ms.median, run.firstMs)
        } + notice.failures).joinToString("\n")
        Notice.Cancelled -> text(R.string.cancelled)
        Notice.NobodyToShareWith -> text(R.string.nobody_to_share_with)
        Notice.NoPicker -> text(R.string.no_picker)
    }

    private fun problem(problem: Problem): String = when (problem) {
        Problem.NO_PERMISSION -> text(R.string.microphone_denied)
        Problem.IN_BACKGROUND -> text(R.string.microphone_in_background)
        Problem.NO_MICROPHONE -> text(R.string.microphone_missing)
        Problem.BUSY -> text(R.string.microphone_busy)
        Problem.LOST -> text(R.string.microphone_lost)
    }

    private fun text(id: Int, vararg arguments: Any?): String = context.getString(id, *arguments)

    private fun joined(vararg lines: String?): String = lines.filterNotNull().joinToString("\n")

    private fun clock(seconds: Double): String = Timeline.clock(seconds)

    private companion object {
        const val MOST_EVENTS = 100
        const val MOST_LIVE_EVENTS = 5
    }
}
