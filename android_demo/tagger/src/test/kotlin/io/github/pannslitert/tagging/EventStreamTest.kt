package io.github.pannslitert.tagging

import com.google.gson.JsonObject
import io.github.pannslitert.EventException
import io.github.pannslitert.LabelException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.events.Event
import io.github.pannslitert.events.EventChange
import io.github.pannslitert.events.EventListener
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.fields
import io.github.pannslitert.floatArray
import io.github.pannslitert.optional
import io.github.pannslitert.rows
import io.github.pannslitert.sense.Sense
import io.github.pannslitert.sense.sense
import io.github.pannslitert.texts
import io.github.pannslitert.vectors
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Settings of the shared vectors, with the names of the Python runtime; all optional. */
internal fun eventSettings(given: JsonObject): EventSettings {
    fun number(of: JsonObject, name: String) = of.optional(name) { it.asDouble }
    val general = EventSettings()
    return EventSettings(
        on = number(given, "on") ?: general.on,
        off = number(given, "off"),
        minDuration = number(given, "min_duration") ?: general.minDuration,
        maxGap = number(given, "max_gap") ?: general.maxGap,
        cooldown = number(given, "cooldown") ?: general.cooldown,
        classes = given.optional("classes") { all ->
            fields(all) {
                val own = it.asJsonObject
                EventSettings.Own(
                    on = number(own, "on"),
                    off = number(own, "off"),
                    minDuration = number(own, "min_duration"),
                    maxGap = number(own, "max_gap"),
                    cooldown = number(own, "cooldown"),
                )
            }
        }.orEmpty(),
    )
}

class EventStreamTest {
    private val cases = vectors("streams.json").rows("cases")

    /** The events of the Python runtime; one onset and one offset for each. */
    @Test
    fun `the shared vectors`() {
        val pairs = cases.filter { it["settings"].asJsonObject["cooldown"].asDouble == 0.0 }
        assertTrue(pairs.size > 20)
        for (case in pairs) {
            val name = case["name"].asString
            val heard = mutableListOf<Pair<String, Double>>()
            val over = mutableListOf<Event>()
            val listener = object : EventListener {
                override fun onOnset(label: String, start: Double) {
                    heard += label to start
                }

                override fun onOffset(event: Event) {
                    assertTrue(name, event.label to event.start in heard)
                    over += event
                }
            }
            val stream = stream(case, listener)
            val found = case.rows("windows").flatMap { stream.push(window(it)) } + stream.finish()
            assertEquals(name, found, over)
            assertEquals(name, found.map { it.label to it.start }.toSet(), heard.toSet())
            assertEquals(name, found.size, heard.size)
            val expected = case.rows("events")
            val sorted = found.sortedWith(compareBy({ it.start }, { it.index }))
            assertEquals(name, expected.map { it["label"].asString }, sorted.map { it.label })
            for ((want, got) in expected zip sorted) {
                assertEquals(name, want["index"].asInt, got.index)
                assertEquals(name, want["start"].asDouble, got.start, 1e-6)
                assertEquals(name, want["end"].asDouble, got.end, 1e-6)
                assertEquals(name, want["score"].asFloat, got.score, 1e-5f)
            }
        }
    }

    /** What the Python runtime tells with each window, and at the end. */
    @Test
    fun `the shared vectors of changes`() {
        for (case in cases) {
            val name = case["name"].asString
            val told = mutableListOf<EventChange>()
            val listener = object : EventListener {
                override fun onChange(change: EventChange) {
                    told += change
                }

                override fun onOnset(label: String, start: Double) = Unit

                override fun onOffset(event: Event) = Unit
            }
            val stream = stream(case, listener)
            val ends: List<() -> Any> = case.rows("windows").map { { stream.push(window(it)) } } + { stream.finish() }
            for ((expected, push) in case["changes"].asJsonArray zip ends) {
                told.clear()
                push()
                val rows = expected.asJsonArray.map { it.asJsonObject }
                assertEquals(name, rows.map { it["phase"].asString to it["number"].asInt },
                    told.map { it.phase.name.lowercase() to it.number })
                for ((want, got) in rows zip told.map { it.event }) {
                    assertEquals(name, want["label"].asString, got.label)
                    assertEquals(name, want["index"].asInt, got.index)
                    assertEquals(name, want["start"].asDouble, got.start, 1e-6)
                    assertEquals(name, want["end"].asDouble, got.end, 1e-6)
                    assertEquals(name, want["score"].asFloat, got.score, 1e-5f)
                }
            }
        }
    }

    /** A clip-wise event is told with the first window that has it, a frame-wise one with the window of its frame. */
    @Test
    fun `onsets come with their window`() {
        for (framewise in listOf(false, true)) {
            val told = mutableListOf<String>()
            val listener = object : EventListener {
                override fun onOnset(label: String, start: Double) {
                    told += "$label $start"
                }

                override fun onOffset(event: Event) {
                    told += "end ${event.end}"
                }
            }
            val stream = EventStream(2.0, 1.0, 0.5, listOf("a", "b"), EventSettings(on = 0.5), null, listener)
            val given = (0 until 5).map { k ->
                told.clear()
                val loud = k in 1..2
                val probs = floatArrayOf(0f, if (loud) 0.9f else 0f)
                val frames = FloatArray(8) { if (it % 2 == 1 && loud) 0.9f else 0f }
                stream.push(tagging(k, k * 1.0, 2.0, probs, frames.takeIf { framewise }))
                told.toList()
            }
            assertEquals(listOf(listOf(), listOf("b 1.5"), listOf(), listOf("end 3.5"), listOf<String>()), given)
        }
    }

    @Test
    fun `an instance takes one stream after another`() {
        for (case in cases) {
            val stream = stream(case, null)
            val (first, second) = List(2) { case.rows("windows").flatMap { stream.push(window(it)) } + stream.finish() }
            assertEquals(first, second)
        }
    }

    @Test
    fun `wrong settings are refused`() {
        fun make(settings: EventSettings) = EventStream(2.0, 1.0, 0.5, listOf("a", "b"), settings, null, null)
        fun own(name: String, values: EventSettings.Own) = make(EventSettings(classes = mapOf(name to values)))
        assertRefused<EventException>("settings of \"c\"") { own("c", EventSettings.Own()) }
        for (bad in listOf(EventSettings.Own(on = 1.5), EventSettings.Own(off = 0.9), EventSettings.Own(maxGap = -1.0))) {
            assertRefused<EventException>("b: ") { own("b", bad) }
        }
        val other = EventStream(2.0, 1.0, 0.5, listOf("a"), EventSettings(), Sense(listOf("a")), null)
        assertRefused<LabelException>("expected 1") { other.push(tagging(0, 0.0, 2.0, FloatArray(2), null)) }
    }

    private fun stream(case: JsonObject, listener: EventListener?): EventStream {
        val labels = texts(case["labels"])
        val settings = eventSettings(case["settings"].asJsonObject)
        val (window, hop, frame) = listOf("window", "hop", "frame").map { case[it].asDouble }
        return EventStream(window, hop, frame, labels, settings, sense(labels, case["sense"].asJsonObject), listener)
    }

    private fun window(row: JsonObject): Tagging = tagging(
        index = row["index"].asInt,
        start = row["start"].asDouble,
        seconds = row["end"].asDouble - row["start"].asDouble,
        probs = floatArray(row["probs"].asJsonArray),
        framewise = row.optional("framewise") { rows -> floatArray(rows.asJsonArray.flatten()) },
        level = row["level_dbfs"].asDouble,
        unusable = "NaN".takeIf { row["unusable"].asBoolean },
    )

    private fun Iterable<com.google.gson.JsonElement>.flatten() =
        com.google.gson.JsonArray().also { all -> for (row in this) all.addAll(row.asJsonArray) }

    private fun tagging(
        index: Int,
        start: Double,
        seconds: Double,
        probs: FloatArray,
        framewise: FloatArray?,
        level: Double = 0.0,
        unusable: String? = null,
    ) = Tagging(
        tags = listOf(), probs = probs, embedding = FloatArray(2), framewise = framewise, index = index,
        startSeconds = start, seconds = seconds, paddingSeconds = 0.0, levelDbfs = level, frontEndMs = 0.0,
        modelMs = 0.0, backend = "none", fallback = null, model = "none", unusable = unusable,
    )
}
