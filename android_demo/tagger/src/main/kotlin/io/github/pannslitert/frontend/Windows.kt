package io.github.pannslitert.frontend

import io.github.pannslitert.AudioException

/** Cuts a stream into overlapping windows. Each window is one input of a model. */
interface Windows {
    /** Receives windows. */
    fun interface Listener {
        /**
         * Called once per window.
         *
         * @param input the input of the model; valid only during the call
         * @param startSample position of the first sample of the window in the stream
         */
        fun onWindow(input: FloatArray, startSample: Long)
    }

    /**
     * Takes samples [from] … [from] + [count] − 1 and passes every window that they complete to [listener].
     *
     * @throws AudioException the range is not within [samples]
     */
    fun push(samples: FloatArray, from: Int = 0, count: Int = samples.size - from, listener: Listener)

    /** Ends the stream and passes the windows that its end completes to [listener]. Do not push after this. */
    fun finish(listener: Listener)
}
