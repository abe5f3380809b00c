package io.github.pannslitert.demo

import io.github.pannslitert.events.Event
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class TimelineTest {
    @Test
    fun aStreamFillsTheFirstMinuteAndThenMovesOn() {
        val step = Timeline.Step(0.0, 1.0, mapOf(0 to 0.5f))
        val early = Event(1, 1.0, 3.0, 0.4f, "b")
        val begun = Timeline(labels = listOf("a", "b"), steps = listOf(step), events = listOf(early)).at(10.0)
        assertEquals(0.0 to 60.0, begun.start to begun.end)
        assertEquals(listOf(step) to listOf(early), begun.steps to begun.events)
        val later = begun.at(62.0)
        assertEquals(2.0 to 62.0, later.start to later.end)
        assertEquals(listOf<Timeline.Step>() to listOf(early), later.steps to later.events)
        assertEquals(listOf<Event>(), begun.at(63.0).events)
    }

    @Test
    fun anEventRunsUntilItIsOver() {
        val begun = Timeline(labels = listOf("a", "b")).begun("b", 2.0)
        assertEquals(mapOf(1 to 2.0), begun.running)
        assertEquals(listOf(1), begun.rows(most = 6))
        assertEquals(mapOf(1 to 2.0), begun.at(100.0).running)
        assertEquals(begun, begun.begun("unknown", 3.0))
        val over = Event(1, 2.0, 3.0, 0.4f, "b")
        assertEquals(listOf(over) to mapOf<Int, Double>(), begun.ended(over).let { it.events to it.running })
    }

    @Test
    fun theHighestClassesAreTheRows() {
        val timeline = Timeline(
            labels = listOf("a", "b", "c", "d"),
            steps = listOf(
                Timeline.Step(0.0, 1.0, mapOf(0 to 0.3f, 1 to 0.2f)),
                Timeline.Step(1.0, 2.0, mapOf(1 to 0.9f)),
            ),
            events = listOf(Event(2, 0.0, 1.0, 0.5f, "c")),
        )
        assertEquals(listOf(1, 2, 0), timeline.rows(most = 6))
        assertEquals(listOf(1, 2), timeline.rows(most = 2))
        assertEquals(listOf<Int>(), Timeline().rows(most = 6))
    }

    @Test
    fun placesAreWithinTheTimeline() {
        val timeline = Timeline(start = 10.0, end = 20.0)
        assertEquals(listOf(0.0, 0.0, 0.25, 1.0, 1.0), listOf(0.0, 10.0, 12.5, 20.0, 99.0).map(timeline::place))
    }

    @Test
    fun marksAreRoundAndFew() {
        assertEquals(listOf(0.0, 20.0, 40.0, 60.0), Timeline().marks(most = 4))
        assertEquals(listOf(20.0, 40.0, 60.0), Timeline(start = 2.5, end = 62.5).marks(most = 4))
        assertEquals(listOf(0.0, 1.0, 2.0), Timeline(start = 0.0, end = 2.0).marks(most = 6))
        assertEquals(listOf(0.0, 14400.0), Timeline(start = 0.0, end = 23400.0).marks(most = 2))
        for (end in listOf(0.5, 1.0, 59.9, 61.0, 3599.0, 23400.0, 900000.0)) {
            for (most in 0..12) {
                val marks = Timeline(end = end).marks(most)
                assertTrue("$end s, $most: $marks", marks.size in 1..maxOf(1, most) && marks.all { it <= end })
            }
        }
    }

    @Test
    fun clocksCountHoursIfThereAreAny() {
        val times = mapOf(0.0 to "0:00", 7.99 to "0:07", 754.0 to "12:34", 3600.0 to "1:00:00", 36061.0 to "10:01:01")
        for ((seconds, clock) in times) assertEquals(clock, Timeline.clock(seconds))
    }
}
