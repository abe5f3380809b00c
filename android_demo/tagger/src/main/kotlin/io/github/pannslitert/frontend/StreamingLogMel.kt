package io.github.pannslitert.frontend

import io.github.pannslitert.AudioException
import io.github.pannslitert.requireRange
import kotlin.math.max
import kotlin.math.min

/**
 * Log-mel windows of a waveform that arrives in chunks of any size. Each frame is computed once, whatever the windows
 * share; nothing is allocated after construction. One instance belongs to one thread.
 *
 * The frames are those of [LogMel] on the whole stream, bit by bit. With `center`, the frames at a window's ends
 * therefore hold the samples beside it, where a clip of its own would be reflected: by up to n_fft / 2 samples, for
 * which a window is n_fft / 2 + 1 samples late.
 *
 * @param windowSamples samples that a window covers, at least `spec.leastSamples`
 * @param hopFrames frames from one window to the next, 1 … frames of a window
 * @param basis as for [LogMel]
 * @throws AudioException a window too short, or a hop longer than a window
 */
class StreamingLogMel(
    private val spec: FrontEndSpec,
    basis: FloatArray,
    private val windowSamples: Int,
    private val hopFrames: Int,
) : Windows {
    private val logMel = LogMel(spec, basis)
    private val margin = if (spec.center) spec.nFft / 2 else 0
    // Frames at the end of a window that its samples do not fill stay as they are.
    private val frames = if (windowSamples < spec.leastSamples) 0 else spec.filledFrames(windowSamples)
    private val window = FloatArray(if (frames == 0) 0 else spec.frames(windowSamples) * spec.nMels)
    private val recent = FloatArray(LogMel.LANES * spec.hopLength + 2 * spec.nFft + 2)
    private var recentStart = 0L
    private var received = 0L
    private var nextFrame = 0L
    private var windowStart = 0L

    /** Frames that were computed so far. */
    val framesComputed: Long get() = nextFrame

    init {
        if (frames == 0) {
            throw AudioException("window of $windowSamples samples; expected at least ${spec.leastSamples}")
        }
        if (hopFrames !in 1..frames) {
            throw AudioException("a hop of $hopFrames frames; expected 1 … $frames, a window's")
        }
        logMel.fill(window, frames, window.size / spec.nMels)
    }

    /** As [Windows.push]; a window is row-major [frames][nMels]. */
    override fun push(samples: FloatArray, from: Int, count: Int, listener: Windows.Listener) {
        requireRange(samples, from, count)
        var taken = 0
        while (taken < count) {
            makeRoom()
            val used = (received - recentStart).toInt()
            val piece = min(count - taken, recent.size - used)
            samples.copyInto(recent, used, from + taken, from + taken + piece)
            received += piece
            taken += piece
            compute(LogMel.END_UNKNOWN, listener)
        }
    }

    /** As [Windows.finish]: the stream's end is reflected as a clip's. Nothing may follow. */
    override fun finish(listener: Windows.Listener) {
        if (received >= spec.leastSamples) compute(received, listener)
    }

    private fun compute(length: Long, listener: Windows.Listener) {
        while (true) {
            val ready = min(framesReady(length), windowStart + frames)
            val count = (ready - nextFrame).toInt()
            val complete = ready == windowStart + frames
            // A few frames cost as much as LANES: they wait for more, or for their window's last.
            if (count <= 0 || (count < LogMel.LANES && !complete && length == LogMel.END_UNKNOWN)) return
            logMel.frames(recent, recentStart, length, nextFrame, count, window, (nextFrame - windowStart).toInt())
            nextFrame = ready
            if (!complete) return
            listener.onWindow(window, windowStart * spec.hopLength)
            window.copyInto(window, 0, hopFrames * spec.nMels, frames * spec.nMels)
            windowStart += hopFrames
        }
    }

    private fun framesReady(length: Long): Long {
        val needed = when {
            !spec.center -> spec.winLength
            length == LogMel.END_UNKNOWN -> margin + 1 + spec.lostSamples
            else -> spec.lostSamples
        }
        return if (received < needed) 0 else (received - needed) / spec.hopLength + 1
    }

    /** Drops the samples that no frame to come needs. */
    private fun makeRoom() {
        val keep = max(0L, nextFrame * spec.hopLength - margin - 1) // one more, for pre-emphasis
        val drop = (min(keep, received) - recentStart).toInt()
        if (drop <= 0) return
        recent.copyInto(recent, 0, drop, (received - recentStart).toInt())
        recentStart += drop
    }
}
