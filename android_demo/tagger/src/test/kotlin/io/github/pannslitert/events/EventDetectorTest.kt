package io.github.pannslitert.events

import com.google.gson.JsonParser
import io.github.pannslitert.EventException
import io.github.pannslitert.assertRefused
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class EventDetectorTest {
    /** The cases that define the algorithm for all implementations. */
    @Test
    fun `the shared vectors`() {
        val vectors = JsonParser.parseString(File("tests/vectors/events.json").readText()).asJsonObject
        val cases = vectors["cases"].asJsonArray
        assertTrue(cases.size() >= 20)
        for (case in cases.map { it.asJsonObject }) {
            val name = case["name"].asString
            val expected = case["events"].asJsonArray.map { it.asJsonObject }
            val found = events(case)
            assertEquals(name, expected.map { it["index"].asInt }, found.map { it.index })
            for ((want, got) in expected.zip(found)) {
                assertEquals(name, want["start"].asDouble, got.start, 1e-9)
                assertEquals(name, want["end"].asDouble, got.end, 1e-9)
                assertEquals(name, want["score"].asFloat, got.score, 0f)
            }
        }
    }

    /** What is told at each step, and at the end. */
    @Test
    fun `the shared vectors of changes`() {
        val vectors = JsonParser.parseString(File("tests/vectors/onsets.json").readText()).asJsonObject
        val cases = vectors["cases"].asJsonArray.map { it.asJsonObject }
        assertTrue(cases.size >= 40)
        for (case in cases) {
            val name = case["name"].asString
            val told = mutableListOf<EventChange>()
            val detector = named(case, Telling(told))
            repeat(2) {
                val steps = case["steps"].asJsonArray.map { it.asJsonObject }
                val news = steps.map { step ->
                    told.clear()
                    detector.push(scores(step), step["start"].asDouble, step["end"].asDouble)
                    told.toList()
                }
                told.clear()
                detector.finish()
                assertEquals(name, changes(case), news + listOf(told.toList()))
            }
        }
    }

    @Test
    fun `an event is returned as soon as no later step can extend it`() {
        val detector = EventDetector(1, on = 0.5f, off = 0.3f, minDuration = 0.0, maxGap = 1.0)
        val scores = listOf(0.6f, 0.1f, 0.1f, 0.1f, 0.9f)
        val given = scores.mapIndexed { i, score -> detector.push(floatArrayOf(score), i.toDouble(), i + 1.0) }
        assertEquals(listOf(0, 0, 1, 0, 0), given.map { it.size })
        assertEquals(listOf(Event(0, 4.0, 5.0, 0.9f)), detector.finish())
        assertEquals(listOf<Event>(), detector.finish())
    }

    /** As in Python: the float nearest to 0.7 is below a threshold of 0.7, that nearest to 0.6 is not below 0.6. */
    @Test
    fun `thresholds are compared as double`() {
        val settings = EventSettings(on = 0.7, classes = mapOf("b" to EventSettings.Own(on = 0.6)))
        val detector = EventDetector(listOf("a", "b"), settings)
        detector.push(floatArrayOf(0.7f, 0.6f), 0.0, 1.0)
        assertEquals(listOf(Event(1, 0.0, 1.0, 0.6f, "b")), detector.finish())
        assertEquals(EventSettings(on = 0.6, off = 0.3), settings.of("b"))
        assertEquals(EventDetector.DEFAULT_ON, EventSettings().on.toFloat(), 0f)
    }

    /** An onset is told when the event is long enough, an offset when no later step can extend the event. */
    @Test
    fun `onsets and offsets`() {
        val told = mutableListOf<String>()
        val listener = object : EventListener {
            override fun onOnset(label: String, start: Double) {
                told += "$label from $start"
            }

            override fun onOffset(event: Event) {
                told += "${event.label} to ${event.end}"
            }
        }
        val settings = EventSettings(on = 0.5, off = 0.3, minDuration = 2.0, maxGap = 1.0)
        val detector = EventDetector(listOf("a"), settings, listener)
        val given = listOf(0.9f, 0.1f, 0.1f, 0.9f, 0.1f, 0.9f, 0.1f, 0.9f, 0.9f, 0.1f).mapIndexed { i, score ->
            told.clear()
            detector.push(floatArrayOf(score), i.toDouble(), i + 1.0)
            told.toList()
        }
        // The first event is too short. The second one is long enough after it has merged, then merges once more.
        val none = listOf<String>()
        assertEquals(List(5) { none } + listOf(listOf("a from 3.0")) + List(4) { none }, given)
        told.clear()
        detector.finish()
        assertEquals(listOf("a to 9.0"), told)
    }

    /** A listener of changes alone; a listener of onsets and offsets alone is above. */
    private class Telling(private val told: MutableList<EventChange>) : EventListener {
        override fun onChange(change: EventChange) {
            told += change
        }

        override fun onOnset(label: String, start: Double) = error("onChange has an override")

        override fun onOffset(event: Event) = error("onChange has an override")
    }

    @Test
    fun `settings out of range are refused`() {
        for ((on, off) in listOf(0.3f to 0.5f, 1.5f to 0.1f, 0.5f to -0.1f, Float.NaN to 0f)) {
            assertRefused<EventException>("expected 0 ≤ off ≤ on ≤ 1") { EventDetector(1, on, off, 0.0, 0.0) }
        }
        for (seconds in listOf(-1.0, Double.NaN, Double.POSITIVE_INFINITY)) {
            assertRefused<EventException>("minDuration") { EventDetector(1, 0.5f, 0.5f, seconds, 0.0) }
            assertRefused<EventException>("maxGap") { EventDetector(1, 0.5f, 0.5f, 0.0, seconds) }
        }
        assertRefused<EventException>("one of each per class") { EventDetector(FloatArray(2), FloatArray(1), 0.0, 0.0) }
        assertRefused<EventException>("one of each per class") { EventDetector(0, 0.5f, 0.5f, 0.0, 0.0) }
    }

    @Test
    fun `invalid steps are refused`() {
        val detector = EventDetector(2, 0.5f, 0.5f, 0.0, 0.0)
        detector.push(floatArrayOf(0f, 1f), 0.0, 1.0)
        assertRefused<EventException>("expected 2") { detector.push(FloatArray(1), 1.0, 2.0) }
        for (score in listOf(Float.NaN, -0.1f, 1.1f)) {
            assertRefused<EventException>("class 1") { detector.push(floatArrayOf(0f, score), 1.0, 2.0) }
        }
        assertRefused<EventException>("in order") { detector.push(FloatArray(2), 0.5, 1.5) }
        assertRefused<EventException>("start ≤ end") { detector.push(FloatArray(2), 2.0, 1.0) }
    }
}
