package io.github.pannslitert.frontend

import com.google.gson.JsonParser
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class WindowsTest {
    private val vectors = JsonParser.parseString(File("tests/vectors/windows.json").readText()).asJsonObject
    private val window = vectors["window"].asInt
    private val frame = vectors["frame"].asInt

    private fun found(front: Windows, samples: Int): List<Triple<Long, Int, Int>> {
        val windows = mutableListOf<Triple<Long, Int, Int>>()
        val listener = Windows.Listener { _, start, heard -> windows += Triple(start, heard, window - heard) }
        for (from in 0 until samples step 50_000) {
            front.push(FloatArray(minOf(50_000, samples - from)), listener = listener)
        }
        front.finish(listener)
        front.finish(listener) // the stream is over
        return windows
    }

    /** Start, samples and padding of every window, as in Python. */
    @Test
    fun `windows of recordings of many lengths`() {
        val cases = vectors["cases"].asJsonArray.map { it.asJsonObject }
        assertTrue(cases.size > 50)
        for (case in cases) {
            val (samples, hop) = case["samples"].asInt to case["hop"].asInt
            val expected = case["windows"].asJsonArray.map { it.asJsonObject }.map {
                Triple(it["start"].asLong, it["end"].asInt - it["start"].asInt, it["padding"].asInt)
            }
            assertEquals("$case", expected, found(SampleWindows(window, hop, frame), samples))
            val logMel = StreamingLogMel(PANNS_32K, triangles(PANNS_32K), window, hop / frame)
            assertEquals("$case", expected, found(logMel, samples))
        }
    }

    /** An exception of the listener costs one window, or those that the same chunk completes after it. */
    @Test
    fun `a stream goes on after an exception of the listener`() {
        val samples = FloatArray(24 * 8000) { it % 8000 / 8000f }
        for (chunk in listOf(100, 8000, 50_000, samples.size)) {
            for (make in listOf(
                { SampleWindows(80_000, 8000, 80) },
                { StreamingLogMel(PANNS_8K, triangles(PANNS_8K), 80_000, 100) },
            )) {
                val front = make()
                val starts = mutableListOf<Long>()
                var calls = 0
                var failures = 0
                val listener = Windows.Listener { _, start, _ ->
                    if (calls++ in listOf(3, 5)) throw IllegalStateException("no engine")
                    starts += start
                }
                val push = { from: Int -> front.push(samples, from, minOf(chunk, samples.size - from), listener) }
                for (feed in (samples.indices step chunk).map { { push(it) } } + List(3) { { front.finish(listener) } }) {
                    try {
                        feed()
                    } catch (error: IllegalStateException) {
                        failures++
                    }
                }
                assertTrue(failures in 1..2)
                assertEquals(starts.sorted().distinct(), starts)
                assertEquals(listOf(0L, 8000L, 16000L), starts.take(3))
                if (chunk <= 8000) assertEquals((0L..14L).filter { it != 3L && it != 5L }.map { it * 8000 }, starts)
            }
        }
    }
}
