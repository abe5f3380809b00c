package io.github.pannslitert.frontend

import com.sun.management.ThreadMXBean
import java.lang.management.ManagementFactory

private val threads = ManagementFactory.getThreadMXBean() as ThreadMXBean

/** Nanoseconds of CPU time that this thread has used. The threads of the JVM itself do not count. */
internal fun cpuNanoseconds(): Long = threads.currentThreadCpuTime

/**
 * Bytes that this thread allocates in one run. The minimum of several runs, because the JVM itself sometimes allocates.
 */
internal fun bytesAllocated(run: () -> Unit): Long {
    val me = Thread.currentThread().id
    return List(5) {
        val before = threads.getThreadAllocatedBytes(me)
        run()
        threads.getThreadAllocatedBytes(me) - before
    }.min()
}
