package io.github.pannslitert.demo

import org.junit.Assert.assertEquals
import org.junit.Test

class NewestTest {
    private var time = 0L
    private val tasks = mutableListOf<Pair<Long, () -> Unit>>()
    private val passed = mutableListOf<Pair<Long, Int>>()
    private val newest = Newest<Int>(
        5000,
        now = { time },
        later = { ms, task -> tasks += time + ms to task },
        passOn = { passed += time to it },
    )

    /** Lets the time go on to [until]. */
    private fun goOn(until: Long) {
        while (tasks.isNotEmpty() && tasks.first().first <= until) {
            val (at, task) = tasks.removeAt(0)
            time = at
            task()
        }
        time = until
    }

    @Test
    fun ofManyValuesTheNewestIsPassedOnAndTheLastOneAlways() {
        for (i in 0..120) {
            goOn(i * 100L)
            newest.offer { i }
        }
        goOn(60_000)
        newest.offer { 1000 }
        assertEquals(listOf(0L to 0, 5000L to 49, 10_000L to 99, 15_000L to 120, 60_000L to 1000), passed)
    }
}
