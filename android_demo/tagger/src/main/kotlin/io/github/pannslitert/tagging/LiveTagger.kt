package io.github.pannslitert.tagging

import io.github.pannslitert.AudioException
import io.github.pannslitert.EventException
import io.github.pannslitert.LabelException
import io.github.pannslitert.audio.MonoResampler
import io.github.pannslitert.events.Event
import io.github.pannslitert.events.EventListener
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.sense.Sense
import java.util.Locale
import java.util.concurrent.Executor
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/** Is told of what a [LiveTagger] hears, on the thread of its executor. Times are seconds since the first sample. */
interface LiveListener : EventListener {
    override fun onOnset(label: String, start: Double) = Unit

    override fun onOffset(event: Event) = Unit

    /** The result of a window, before the onsets and offsets in it. It may be unusable: see [Tagging.unusable]. */
    fun onWindow(tagging: Tagging) = Unit

    /** More sound was taken. */
    fun onProgress(progress: LiveProgress) = Unit

    /** The stream has ended, and every window of it was told. */
    fun onEnd() = Unit

    /** The engine or this listener failed. Nothing more is told. */
    fun onFailure(error: Throwable)
}

/**
 * How much a [LiveTagger] has heard.
 *
 * @property seconds length of the stream so far, with what was lost
 * @property lostSeconds how much of it was lost, because the model was too slow or the microphone was gone
 * @property silentSeconds how long the newest samples have all been exactly zero. Some seconds mean that the microphone
 *     is switched off, or another app has it
 */
class LiveProgress(val seconds: Double, val lostSeconds: Double, val silentSeconds: Double)

/**
 * Tags sound while it arrives, and finds events in it. One thread pushes samples, which never waits for the model; the
 * model runs on the thread of an executor.
 *
 * If the model is too slow for the sound, samples are lost, which is counted. The time goes on: a window with lost
 * samples is unusable, and the next ones are at the right time.
 *
 * An onset is told with the first window that reaches the threshold, so at most one hop after that much of the sound was
 * heard. See [EventStream] for frame-wise networks.
 *
 * @param hopSeconds time from one window to the next, as for [Tagger.stream]; see [hopFor]
 * @param settings thresholds of events
 * @param sense converts the probabilities of each window to scores first; null to leave them
 * @param executor the thread of the tagger's engine
 * @param mostWaitingSeconds how much sound may wait for the model before some is lost
 * @throws AudioException the hop is out of range
 * @throws EventException a setting is out of range, or names an unknown class
 */
class LiveTagger(
    private val tagger: Tagger,
    private val executor: Executor,
    private val listener: LiveListener,
    hopSeconds: Double,
    settings: EventSettings = EventSettings(),
    sense: Sense? = null,
    private val mostWaitingSeconds: Double = MOST_WAITING_SECONDS,
) {
    private sealed interface Piece
    private class Sound(val samples: FloatArray, val rate: Int, val channels: Int, val seconds: Double) : Piece
    private class Gap(val seconds: Double) : Piece
    private object End : Piece

    private val stream = tagger.stream(hopSeconds)
    private val events = EventStream(stream, settings, sense, listener)
    private val modelRate = tagger.bundle.manifest.frontEnd.sampleRate

    /** Length of a window, seconds. */
    val windowSeconds: Double get() = stream.windowSeconds

    /** Time from one window to the next, seconds: the hop that was asked for, rounded to frames. */
    val hopSeconds: Double get() = stream.hopSeconds

    // These are shared by all threads: use them with `lock` only.
    private val lock = Any()
    private val waiting = ArrayDeque<Piece>()
    private var waitingSeconds = 0.0
    private var gapSeconds = 0.0 // lost after the last piece that waits
    private var closed = false
    private var working = false

    // These belong to the executor's thread.
    private var resampler: MonoResampler? = null
    private var seconds = 0.0
    private var lostSeconds = 0.0
    private var silentSeconds = 0.0
    private val gaps = ArrayDeque<ClosedFloatingPointRange<Double>>() // what was lost, until all windows are past it

    /**
     * Takes the next samples. After [finish], [cancel] or a failure they are ignored.
     *
     * @param samples nominally within [-1, 1], channels in turn; not copied: do not change them
     * @param rate Hz, as for [MonoResampler]. It may change, for example with another microphone
     * @throws AudioException the number of samples is no multiple of the channels, or the rate is out of range
     */
    fun push(samples: FloatArray, rate: Int, channels: Int = 1) {
        if (rate < 1 || channels < 1 || samples.size % channels != 0) {
            throw AudioException("${samples.size} samples of $channels channels at $rate Hz; expected whole frames")
        }
        val sound = Sound(samples, rate, channels, samples.size.toDouble() / channels / rate)
        synchronized(lock) {
            if (closed) return
            if (waitingSeconds > 0 && waitingSeconds + sound.seconds > mostWaitingSeconds) {
                gapSeconds += sound.seconds
                return
            }
            enqueueGap()
            waiting += sound
            waitingSeconds += sound.seconds
            work()
        }
    }

    /** Tells that the source lost this much sound after the last samples, for example while a microphone was gone. */
    fun lose(seconds: Double) {
        synchronized(lock) { if (!closed && seconds > 0) gapSeconds += seconds }
    }

    /** Ends the stream: what waits is tagged, then the rest of the stream, then [LiveListener.onEnd] is called. */
    fun finish() {
        synchronized(lock) {
            if (closed) return
            closed = true
            enqueueGap()
            waiting += End
            work()
        }
    }

    /** Ends the stream without tagging what waits. No call of the listener begins after this, but one may be running. */
    fun cancel() {
        synchronized(lock) {
            closed = true
            waiting.clear()
        }
    }

    private fun enqueueGap() {
        if (gapSeconds > 0) waiting += Gap(gapSeconds)
        gapSeconds = 0.0
    }

    /** Has the executor work on what waits, one piece at a time, so that other work of its thread comes in between. */
    private fun work() {
        if (working || waiting.isEmpty()) return
        working = true
        executor.execute {
            val piece = synchronized(lock) { waiting.removeFirstOrNull() }
            try {
                piece?.let(::hear)
            } catch (error: Throwable) { // an Error, too: nobody else would say that listening has ended
                cancel()
                listener.onFailure(error)
            } finally {
                synchronized(lock) {
                    if (piece is Sound) waitingSeconds = max(0.0, waitingSeconds - piece.seconds)
                    working = false
                    work()
                }
            }
        }
    }

    private fun hear(piece: Piece) {
        when (piece) {
            is Sound -> {
                seconds += piece.seconds
                silentSeconds = if (piece.samples.all { it == 0f }) silentSeconds + piece.seconds else 0.0
                feed(resampler(piece.rate, piece.channels).push(piece.samples))
            }
            is Gap -> {
                gaps += seconds..(seconds + piece.seconds)
                seconds += piece.seconds
                lostSeconds += piece.seconds
                endResampler()
                // In pieces of a second: after a night without a microphone, a gap is long.
                var missing = round((seconds - stream.seconds) * modelRate).toLong()
                while (missing > 0) {
                    val count = min(missing, modelRate.toLong()).toInt()
                    feed(FloatArray(count) { Float.NaN })
                    missing -= count
                }
            }
            is End -> {
                endResampler()
                stream.finish().forEach(::tell)
                events.finish()
                listener.onEnd()
                return
            }
        }
        listener.onProgress(LiveProgress(seconds, lostSeconds, silentSeconds))
    }

    private fun resampler(rate: Int, channels: Int): MonoResampler {
        val current = resampler
        if (current != null && current.fromRate == rate && current.channels == channels) return current
        endResampler()
        return MonoResampler(rate, modelRate, channels).also { resampler = it }
    }

    private fun endResampler() {
        resampler?.let { feed(it.finish()) }
        resampler = null
    }

    private fun feed(samples: FloatArray) = stream.push(samples).forEach(::tell)

    private fun tell(tagging: Tagging) {
        listener.onWindow(if (tagging.unusable == null) tagging else explained(tagging))
        events.push(tagging)
    }

    /** An unusable window, with its reason in words if sound was lost in it. */
    private fun explained(tagging: Tagging): Tagging {
        while (gaps.isNotEmpty() && gaps.first().endInclusive <= tagging.startSeconds) gaps.removeFirst()
        val gap = gaps.firstOrNull { it.start < tagging.startSeconds + tagging.seconds } ?: return tagging
        val length = gap.endInclusive - gap.start
        return tagging.unusableBecause("%.1f s of sound were lost at %.1f s".format(Locale.ROOT, length, gap.start))
    }

    companion object {
        private const val MOST_WAITING_SECONDS = 10.0
        private const val LONGEST_HOP = 1.0
        private const val HEADROOM = 1.5 // the phone has other work, and gets slower when it is warm

        /**
         * The hop for listening: a quarter of a window, at most 1 s; longer if the model needs more time, rounded up to
         * tenths of a second.
         *
         * @param clipSeconds length of a window
         * @param windowMs time that the phone needs for a window, milliseconds
         */
        fun hopFor(clipSeconds: Double, windowMs: Double): Double {
            val needed = ceil(windowMs * HEADROOM / 100.0) / 10.0
            return min(max(min(clipSeconds / 4, LONGEST_HOP), needed), clipSeconds)
        }
    }
}
