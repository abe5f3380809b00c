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
 * @param hopFrames frames from one window to the next, 1 … number of frames of a window, or whole hops in a window
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
    private val mostHop = max(frames, windowSamples / spec.hopLength)
    private val window = FloatArray(if (frames == 0) 0 else spec.frames(windowSamples) * spec.nMels)
    private val leastTail = Windows.leastTail(windowSamples, spec.hopLength)
    private val recent = FloatArray(LogMel.LANES * spec.hopLength + 2 * spec.nFft + 2)
    private var recentStart = 0L
    private var received = 0L
    private var heard = 0L // `received` without padding

    init {
        if (frames == 0) {
            throw AudioException("window of $windowSamples samples; expected at least ${spec.leastSamples}")
        }
        if (hopFrames !in 1..mostHop) {
            throw AudioException("a hop of $hopFrames frames; expected 1 … $mostHop, a window's")
        }
        logMel.fill(window, frames, window.size / spec.nMels)
    }

    private val rows = WindowRows(frames, hopFrames, spec.nMels)

    /** Number of frames that were computed so far. */
    val framesComputed: Long get() = rows.next

    /** As [Windows.push]. A window is row-major, shape [frames][nMels]. */
    override fun push(samples: FloatArray, from: Int, count: Int, listener: Windows.Listener) {
        requireRange(samples, from, count)
        heard += count
        var failure: Exception? = null
        var taken = 0
        while (taken < count) {
            val used = makeRoom()
            val piece = min(count - taken, recent.size - used)
            samples.copyInto(recent, used, from + taken, from + taken + piece)
            taken += piece
            received += piece
            try {
                compute(LogMel.END_UNKNOWN, if (failure == null) listener else Windows.NOBODY)
            } catch (error: Exception) {
                failure = error
                compute(LogMel.END_UNKNOWN, Windows.NOBODY)
            }
        }
        failure?.let { throw it }
    }

    /** As [Windows.finish]. The end of the stream is reflected like the end of a clip. */
    override fun finish(listener: Windows.Listener) {
        if (heard >= windowSamples) {
            compute(received, listener)
            val covered = rows.first * spec.hopLength + windowSamples
            if (heard - covered >= leastTail) pass(listener, (heard - windowSamples) / spec.hopLength)
        } else if (heard > 0 && rows.start == 0L) {
            pad()
            logMel.fill(rows.values, rows.next.toInt(), frames)
            pass(listener, 0)
        }
    }

    /** Pads a stream that is shorter than a window. With padded frames, the front end needs at least one frame. */
    private fun pad() {
        val whole = if (spec.paddedFrames == null) windowSamples.toLong() else max(heard, spec.leastSamples.toLong())
        do {
            val used = makeRoom()
            val piece = min(whole - received, (recent.size - used).toLong()).toInt()
            recent.fill(0f, used, used + piece)
            received += piece
            compute(if (received < whole) LogMel.END_UNKNOWN else received, null)
        } while (received < whole)
    }

    /** Computes the frames that are ready, and passes the windows that are complete to [listener], if there is one. */
    private fun compute(length: Long, listener: Windows.Listener?) {
        while (true) {
            val count = min(framesReady(length) - rows.next, rows.room.toLong()).toInt()
            // The samples are asked for, too, because the last frame may end before the window.
            val complete = count == rows.room && received >= rows.start * spec.hopLength + windowSamples
            // A few frames cost as much as LANES frames: wait for more of them, or for the last frame of the window.
            if (count > 0 && (count >= LogMel.LANES || complete || length != LogMel.END_UNKNOWN)) {
                logMel.frames(recent, recentStart, length, rows.next, count, rows.values, rows.end)
                rows.wrote(count)
            }
            if (!complete || listener == null) return
            pass(listener, rows.start)
        }
    }

    /** Passes the window that begins at frame [start] on. The stream advances first, because [listener] may throw. */
    private fun pass(listener: Windows.Listener, start: Long) {
        rows.take(window, start)
        val startSample = start * spec.hopLength
        listener.onWindow(window, startSample, min(windowSamples.toLong(), heard - startSample).toInt())
    }

    private fun framesReady(length: Long): Long {
        val needed = when {
            !spec.center -> spec.winLength
            length == LogMel.END_UNKNOWN -> margin + 1 + spec.lostSamples
            else -> spec.lostSamples
        }
        return if (received < needed) 0 else (received - needed) / spec.hopLength + 1
    }

    /** Drops the samples that no later frame needs. Returns the number of samples that are left. */
    private fun makeRoom(): Int {
        // Two more samples: one for the reflection at the end, and one for pre-emphasis.
        val keep = max(0L, rows.next * spec.hopLength - margin - 2)
        val drop = (min(keep, received) - recentStart).toInt()
        if (drop > 0) {
            recent.copyInto(recent, 0, drop, (received - recentStart).toInt())
            recentStart += drop
        }
        return (received - recentStart).toInt()
    }
}
