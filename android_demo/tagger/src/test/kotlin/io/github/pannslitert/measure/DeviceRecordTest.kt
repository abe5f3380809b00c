package io.github.pannslitert.measure

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import io.github.pannslitert.RecordException
import io.github.pannslitert.assertRefused
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** The format is that of the Python runtime. tests/vectors/records.json holds records that both must read or refuse. */
class DeviceRecordTest {
    private val vectors = JsonParser.parseString(File("tests/vectors/records.json").readText()).asJsonObject
    private val good = vectors["good"].asJsonObject

    private fun record() = DeviceRecord.parse(good["both engines"].toString())

    @Test
    fun `good records are read, and written unchanged`() {
        assertEquals(3, good.size())
        for (name in good.keySet()) {
            val record = DeviceRecord.parse(good[name].toString())
            assertEquals(name, record, DeviceRecord.parse(record.toJson()))
            assertEquals(name, plain(good[name]), plain(JsonParser.parseString(record.toJson())))
        }
    }

    @Test
    fun `every bad change is refused, and the field is named`() {
        val changes = vectors["bad"].asJsonArray.map { it.asJsonObject }
        assertTrue(changes.size > 250)
        for (change in changes) {
            val path = change["path"].asString.split(".")
            val json = good["both engines"].deepCopy().asJsonObject
            val parent = path.dropLast(1).fold(json as JsonElement) { value, key ->
                if (value is JsonArray) value[key.toInt()] else value.asJsonObject[key]
            }.asJsonObject
            if (change.has("value")) parent.add(path.last(), change["value"]) else parent.remove(path.last())
            // "gpu" instead of "cpu" is valid in itself. Then the fields that belong to the CPU are wrong.
            val gpu = path.last() == "engine" && change["value"]?.toString() == "\"gpu\""
            assertRefused<RecordException>(if (gpu) "adapter" else path.last()) { DeviceRecord.parse(json.toString()) }
        }
    }

    @Test
    fun `text that is not a record is refused`() {
        val infinite = "{\"format_version\": 1e999}"
        for (text in listOf("", "[]", "{}", "null", "{", "NaN", "{} {}", "[".repeat(10_000), infinite)) {
            assertRefused<RecordException>("") { DeviceRecord.parse(text) }
        }
        val file = kotlin.io.path.createTempFile("record", ".json").toFile()
        try {
            file.writeText("{}")
            assertRefused<RecordException>(file.name) { DeviceRecord.read(file) }
        } finally {
            file.delete()
        }
        assertRefused<RecordException>(file.name) { DeviceRecord.read(file) }
    }

    @Test
    fun `a new run replaces the old one`() {
        val record = record()
        val newer = record.runs[0].copy(firstMs = 1.0)
        val other = record.runs[0].copy(precision = "fp32")
        val with = record.with(listOf(newer, other))
        assertEquals(listOf(newer, record.runs[1], other), with.runs)
        assertRefused<RecordException>("two runs") { record.copy(runs = record.runs + newer) }
        assertEquals("phone-8", record.device.slug)
    }

    @Test
    fun `percentiles are those of the Python runtime`() {
        // Computed with numpy.percentile.
        val expected = Latency(median = 4.0, p10 = 1.5, p90 = 8.4, min = 1.0)
        assertEquals(expected, Latency.of(listOf(4.0, 1.0, 2.25, 10.0, 6.0)))
        assertEquals(Latency(median = 2.0, p10 = 2.0, p90 = 2.0, min = 2.0), Latency.of(listOf(2.0)))
        assertRefused<RecordException>("no times") { Latency.of(listOf()) }
    }

    /** Converts JSON to comparable values: all numbers become doubles. */
    private fun plain(value: JsonElement): Any? = when {
        value is JsonObject -> value.keySet().associateWith { plain(value[it]) }
        value is JsonArray -> value.map(::plain)
        value.isJsonPrimitive && value.asJsonPrimitive.isNumber -> value.asDouble
        value.isJsonPrimitive -> value.asJsonPrimitive.toString()
        else -> null
    }
}
