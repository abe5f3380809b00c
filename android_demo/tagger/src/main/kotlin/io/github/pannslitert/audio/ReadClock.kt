package io.github.pannslitert.audio

import kotlin.math.max

/**
 * Finds out how much sound a recorder has lost, from the times at which its samples are read, and where. Between two
 * reads, the recorder keeps as much as its buffer holds. When that is full, it drops what is new: so the loss comes after
 * the sound that it kept. A recorder that is opened anew has kept nothing.
 *
 * Times are nanoseconds of a clock that also counts while the device sleeps. It does not compare clocks over longer
 * times: those of a device and of its microphone differ.
 */
class ReadClock {
    private var last: Long? = null
    private var kept = 0L
    private var pending = 0L // lost, after sound that was kept
    private var due = 0L // how much of that is still to be read

    /** When samples were read last; null before the first ones. */
    val lastRead: Long? get() = last

    /** The next samples come from another recorder. */
    fun restart() {
        kept = 0
        due = 0
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
        var lost = 0L
        if (pending > 0 && due <= 0) {
            lost = pending
            pending = 0
        }
        if (kept == 0L) {
            lost += max(0L, elapsed - span)
        } else if (elapsed > kept) {
            pending += elapsed - kept
            due = kept
        }
        due -= span
        last = now
        kept = buffer
        return lost / 1e9
    }
}
