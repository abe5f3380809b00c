package io.github.pannslitert.audio

import kotlin.math.max

/**
 * Finds out how much sound a recorder has lost, from the times at which its samples are read. Between two reads, the
 * recorder keeps as much as its buffer holds; what is older than that is lost. A recorder that is opened anew has kept
 * nothing.
 *
 * Times are nanoseconds of a clock that also counts while the device sleeps. It does not compare clocks over longer
 * times: those of a device and of its microphone differ.
 */
class ReadClock {
    private var last: Long? = null
    private var kept = 0L

    /** When samples were read last; null before the first ones. */
    val lastRead: Long? get() = last

    /** The next samples come from another recorder. */
    fun restart() {
        kept = 0
    }

    /**
     * Samples were read.
     *
     * @param now the time after that
     * @param span duration of the samples, nanoseconds
     * @param buffer how much the recorder keeps, nanoseconds
     * @return how much sound was lost just before these samples, seconds
     */
    fun read(now: Long, span: Long, buffer: Long): Double {
        val elapsed = now - (last ?: (now - span))
        val lost = if (elapsed > kept + span) elapsed - max(kept, span) else 0L
        last = now
        kept = buffer
        return lost / 1e9
    }
}
