package io.github.pannslitert.demo

/**
 * Passes on the newest of many values, at most one in [everyMs] milliseconds. The last value is always passed on. Use
 * an instance on one thread.
 *
 * @param now the time, milliseconds
 * @param later runs a task after a number of milliseconds
 */
class Newest<T>(
    private val everyMs: Long,
    private val now: () -> Long,
    private val later: (Long, () -> Unit) -> Unit,
    private val passOn: (T) -> Unit,
) {
    private var waiting: (() -> T)? = null
    private var last: Long? = null

    /** Takes the next value, which is computed only when it is passed on. */
    fun offer(value: () -> T) {
        val scheduled = waiting != null
        waiting = value
        if (scheduled) return
        val wait = last?.let { it + everyMs - now() } ?: 0
        if (wait <= 0) flush() else later(wait, ::flush)
    }

    private fun flush() {
        val value = waiting ?: return
        waiting = null
        last = now()
        passOn(value())
    }
}
