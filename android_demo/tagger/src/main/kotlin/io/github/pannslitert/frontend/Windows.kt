package io.github.pannslitert.frontend

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
