package io.github.pannslitert.tagging

import io.github.pannslitert.frontend.Windows
import io.github.pannslitert.requireRange
import kotlin.math.min

/**
 * Windows of unchanged samples, for graphs that take a waveform.
 *
 * @param size length of a window, samples
 * @param hop samples from one window to the next
 */
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
