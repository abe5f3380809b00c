package io.github.pannslitert.audio

import kotlin.math.min
import kotlin.random.Random
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class ReadClockTest {
    private fun ns(seconds: Double) = (seconds * 1e9).toLong()

    private val span = ns(0.1)
    private val buffer = ns(1.0)

    /** A recorder with a buffer of 1 s, and a reader that is sometimes late: what it says is what was overwritten. */
    @Test
    fun `what a full buffer loses is counted`() {
        val random = Random(1)
        for (most in listOf(0.05, 0.9, 3.0)) {
            val clock = ReadClock()
            var now = 0.0
            var held = 0.0
            var lost = 0.0
            for (i in 0 until 1000) {
                val pause = if (i % 20 == 10) random.nextDouble(most) else 0.0 // then it catches up
                val wait = maxOf(0.0, 0.1 - held - pause) // the reader waits for a whole piece
                now += pause + wait
                held += pause + wait
                val overwritten = held - min(held, 1.0)
                held = min(held, 1.0) - 0.1
                val said = clock.read(ns(now), span, buffer)
                assertEquals("$i, pauses of up to $most s", overwritten, said, if (overwritten > 0) 0.1 else 0.0)
                lost += said
            }
            assertEquals(most > 1.0, lost > 10.0)
        }
    }

    @Test
    fun `another recorder has kept nothing`() {
        val clock = ReadClock()
        assertNull(clock.lastRead)
        assertEquals(0.0, clock.read(ns(5.0), span, buffer), 0.0)
        assertEquals(0.0, clock.read(ns(6.05), span, buffer), 0.0) // late, but nothing was overwritten
        clock.restart()
        assertEquals(1.9, clock.read(ns(8.05), span, buffer), 1e-6)
        assertEquals(ns(8.05), clock.lastRead)
        assertEquals(0.0, clock.read(ns(8.15), span, buffer), 0.0)
        clock.restart()
        assertEquals(0.0, clock.read(ns(8.25), span, buffer), 0.0) // it was opened at once
    }
}
