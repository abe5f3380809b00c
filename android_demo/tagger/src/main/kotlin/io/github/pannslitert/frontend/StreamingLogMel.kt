package io.github.pannslitert.frontend

import io.github.pannslitert.AudioException
import io.github.pannslitert.requireRange
import kotlin.math.max
import kotlin.math.min

/**
 * Computes log-mel windows of a waveform that arrives in chunks of any size. Each frame is computed once, even where
 * windows overlap. Allocates no memory after construction. Use one instance per thread.
 *
 * The frames are bit-identical to those of [LogMel] on the whole stream. With `center`, the first and last frames of a
 * window therefore use samples outside the window, up to n_fft / 2 on either side. [LogMel] on the window alone would
 * reflect the window there. For the same reason, a window is complete n_fft / 2 + 1 samples after its end.
 *
 * @param windowSamples length of a window in samples, at least `spec.leastSamples`
 * @param hopFrames frames from one window to the next, 1 … number of frames of a window
 * @param basis as for [LogMel]
 * @throws AudioException the window is too short, or the hop is out of range
 */
class StreamingLogMel(
    private val spec: FrontEndSpec,
    basis: FloatArray,
    private val windowSamples: Int,
    private val hopFrames: Int,
) : Windows {
    private val logMel = LogMel(spec, basis)
    private val margin = if (spec.center) spec.nFft / 2 else 0
    // Frames that are computed for a window. The frames after them are filled up once and never change.
    private val frames = if (windowSamples < spec.leastSamples) 0 else spec.filledFrames(windowSamples)
    private val window = FloatArray(if (frames == 0) 0 else spec.frames(windowSamples) * spec.nMels)
    private val recent = FloatArray(LogMel.LANES * spec.hopLength + 2 * spec.nFft + 2)
    private var recentStart = 0L
    private var received = 0L
    private var nextFrame = 0L
    private var windowStart = 0L

    /** Number of frames that were computed so far. */
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

    /** As [Windows.push]. A window is row-major, shape [frames][nMels]. */
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

    /** As [Windows.finish]. The end of the stream is reflected like the end of a clip. */
    override fun finish(listener: Windows.Listener) {
        if (received >= spec.leastSamples) compute(received, listener)
    }

    private fun compute(length: Long, listener: Windows.Listener) {
        while (true) {
            val ready = min(framesReady(length), windowStart + frames)
            val count = (ready - nextFrame).toInt()
            val complete = ready == windowStart + frames
            // A few frames cost as much as LANES frames: wait for more of them, or for the last frame of the window.
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

    /** Drops the samples that no later frame needs. */
    private fun makeRoom() {
        val keep = max(0L, nextFrame * spec.hopLength - margin - 1) // one more sample, for pre-emphasis
        val drop = (min(keep, received) - recentStart).toInt()
        if (drop <= 0) return
        recent.copyInto(recent, 0, drop, (received - recentStart).toInt())
        recentStart += drop
    }
}
