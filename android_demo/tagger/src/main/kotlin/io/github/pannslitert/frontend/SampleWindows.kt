package io.github.pannslitert.frontend

import io.github.pannslitert.requireRange
import kotlin.math.min

/**
 * Windows of unchanged samples, for graphs that take a waveform.
 *
 * @param size length of a window, samples
 * @param hop samples from one window to the next, a multiple of [frame], at most [size]
 * @param frame samples from one frame of the log-mel to the next
 */
internal class SampleWindows(private val size: Int, hop: Int, private val frame: Int) : Windows {
    private val rows = WindowRows(size, hop, width = 1)
    private val window = FloatArray(size)
    private val leastTail = Windows.leastTail(size, frame)

    override fun push(samples: FloatArray, from: Int, count: Int, listener: Windows.Listener) {
        requireRange(samples, from, count)
        var failure: Exception? = null
        var taken = 0
        while (taken < count) {
            val piece = min(count - taken, rows.room)
            samples.copyInto(rows.values, rows.end, from + taken, from + taken + piece)
            rows.wrote(piece)
            taken += piece
            if (rows.room > 0) break
            try {
                pass(if (failure == null) listener else Windows.NOBODY, rows.start, size)
            } catch (error: Exception) {
                failure = error
            }
        }
        failure?.let { throw it }
    }

    override fun finish(listener: Windows.Listener) {
        val heard = rows.next
        if (heard >= size) {
            if (heard - (rows.first + size) >= leastTail) pass(listener, (heard - size) / frame * frame, size)
        } else if (heard > 0 && rows.start == 0L) {
            rows.values.fill(0f, heard.toInt())
            pass(listener, 0, heard.toInt())
        }
    }

    /** Passes the window that begins at sample [start] on. The stream advances first, because [listener] may throw. */
    private fun pass(listener: Windows.Listener, start: Long, samples: Int) {
        rows.take(window, start)
        listener.onWindow(window, start, samples)
    }
}
