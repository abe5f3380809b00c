package io.github.pannslitert

import kotlin.math.min

/** A stream cut into overlapping windows, each what a model takes. */
interface Windows {
    /** Receives windows; [input] is valid during the call. */
    fun interface Listener {
        fun onWindow(input: FloatArray, startSample: Long)
    }

    /** Takes samples [from] … [from] + [count] − 1 and gives [listener] every window that they complete. */
    fun push(samples: FloatArray, from: Int = 0, count: Int = samples.size - from, listener: Listener)

    /** The stream is over: gives [listener] the windows that its end completes. Nothing may follow. */
    fun finish(listener: Listener)
}

/** Windows of samples as they are, for graphs that take a waveform. */
internal class SampleWindows(size: Int, private val hop: Int) : Windows {
    private val window = FloatArray(size)
    private var used = 0
    private var start = 0L

    override fun push(samples: FloatArray, from: Int, count: Int, listener: Windows.Listener) {
        requireRange(samples, from, count)
        var taken = 0
        while (taken < count) {
            val piece = min(count - taken, window.size - used)
            samples.copyInto(window, used, from + taken, from + taken + piece)
            taken += piece
            used += piece
            if (used < window.size) return
            listener.onWindow(window, start)
            window.copyInto(window, 0, hop, used)
            used -= hop
            start += hop
        }
    }

    override fun finish(listener: Windows.Listener) = Unit
}

/** Refuses a range that is not within [samples]. */
internal fun requireRange(samples: FloatArray, from: Int, count: Int) {
    if (from < 0 || count < 0 || from > samples.size - count) {
        throw AudioException("$count samples from $from of ${samples.size}; expected a range within them")
    }
}
