package io.github.pannslitert.audio

import kotlin.random.Random
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class ReadClockTest {
    private fun ns(seconds: Double) = (seconds * 1e9).toLong()

    private val span = ns(0.1)
    private val buffer = ns(1.0)

    /**
     * A recorder that keeps ten pieces and drops what is new, and a reader that is late once in a while: the time that
     * the clock gives a piece is the time at which it was recorded.
     */
    @Test
    fun `what a full buffer loses is counted, at its place`() {
        val random = Random(1)
        for (most in listOf(0.5, 8.0, 40.0)) {
            val clock = ReadClock()
            val ring = ArrayDeque<Int>() // the pieces of a tenth of a second that are kept
            var recorded = 0
            var stall = 0.0
            var believed = -1.0
            var lost = 0.0
            for (read in 0 until 2000) {
                val until = recorded + if (ring.isEmpty() && stall < 1.0) 1 else stall.toInt()
                while (recorded < until) {
                    if (ring.size < 10) ring += recorded
                    recorded++
                }
                val piece = ring.removeFirst()
                val said = clock.read(ns(recorded * 0.1), span, buffer)
                lost += said
                believed += 1.0 + said * 10
                // The clock cannot see how much the recorder had kept before a stall: less than a piece, here.
                assertEquals("$read of stalls up to $most", piece.toDouble(), believed, 0.01)
                stall = if (read % 40 == 39) random.nextDouble(most) else 0.0
            }
            assertEquals(most > 10.0, lost > 10.0)
        }
    }

    @Test
    fun `another recorder has kept nothing`() {
        val clock = ReadClock()
        assertNull(clock.lastRead)
        assertEquals(0.0, clock.read(ns(5.0), span, buffer), 0.0)
        assertEquals(0.0, clock.read(ns(5.95), span, buffer), 0.0) // late, but nothing was lost
        clock.restart()
        assertEquals(1.9, clock.read(ns(7.95), span, buffer), 1e-6)
        assertEquals(ns(7.95), clock.lastRead)
        assertEquals(0.0, clock.read(ns(8.05), span, buffer), 0.0)
        clock.restart()
        assertEquals(0.0, clock.read(ns(8.15), span, buffer), 0.0) // it was opened at once
        assertEquals(0.0, clock.read(ns(9.65), span, buffer), 0.0) // 0.5 s too late, but that comes after what was kept
        clock.restart()
        assertEquals(0.5 + 0.9, clock.read(ns(10.65), span, buffer), 1e-6) // which is gone with the recorder
    }
}
