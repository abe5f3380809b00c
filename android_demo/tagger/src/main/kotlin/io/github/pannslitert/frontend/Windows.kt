package io.github.pannslitert.frontend

import io.github.pannslitert.AudioException
import kotlin.math.max

/**
 * Cuts a stream into overlapping windows. Each window is one input of a model. Window k begins at k hops.
 *
 * At the end of a stream, the rest after the last window is in one more window, which is shifted back so that it is
 * full. It begins with a frame of the log-mel and ends less than a frame before the end of the stream. A rest shorter
 * than 5 % of a window is left out. A stream that is shorter than a window is padded like a short recording. The Python
 * runtime has the same windows; tests/vectors/windows.json defines both.
 */
interface Windows {
    /** Receives windows. */
    fun interface Listener {
        /**
         * Called once per window.
         *
         * @param input the input of the model; valid only during the call
         * @param startSample position of the first sample of the window in the stream
         * @param samples number of samples of the stream in the window; the rest of a short stream's window is padding
         */
        fun onWindow(input: FloatArray, startSample: Long, samples: Int)
    }

    /**
     * Takes samples [from] … [from] + [count] − 1 and passes every window that they complete to [listener].
     *
     * If [listener] throws an exception, all samples are taken nevertheless, and the stream can go on. The windows after
     * the one of the exception are not passed on. The caller gets the exception.
     *
     * @throws AudioException the range is not within [samples]
     */
    fun push(samples: FloatArray, from: Int = 0, count: Int = samples.size - from, listener: Listener)

    /**
     * Ends the stream and passes the remaining windows to [listener]. Do not push after this. If [listener] throws an
     * exception, another call passes on the windows after that.
     */
    fun finish(listener: Listener)

    companion object {
        private const val TAIL_PERCENT = 5

        /** Passes nothing on. */
        internal val NOBODY = Listener { _, _, _ -> }

        /** The shortest rest that is not left out, samples, for windows and frames of these lengths. */
        internal fun leastTail(window: Int, frame: Int): Long =
            max(frame.toLong(), (window.toLong() * TAIL_PERCENT + 99) / 100)
    }
}
