package io.github.pannslitert.events

import com.google.gson.JsonObject
import io.github.pannslitert.floatArray

/**
 * Runs a case in the format of tests/vectors/events.json and returns its events, sorted by start, then class. A case
 * without thresholds has the default ones.
 */
internal fun events(case: JsonObject): List<Event> {
    val on = case["on"]?.let { floatArray(it.asJsonArray) }
    val off = case["off"]?.let { floatArray(it.asJsonArray) }
    val minDuration = case["min_duration"].asDouble
    val maxGap = case["max_gap"].asDouble
    val detector = when {
        on == null -> EventDetector(case["classes"].asInt, minDuration = minDuration, maxGap = maxGap)
        off == null -> EventDetector(on.size, on.first(), minDuration = minDuration, maxGap = maxGap)
        else -> EventDetector(on, off, minDuration, maxGap)
    }
    val found = case["steps"].asJsonArray.map { it.asJsonObject }.flatMap { step ->
        detector.push(floatArray(step["scores"].asJsonArray), step["start"].asDouble, step["end"].asDouble)
    }
    return (found + detector.finish()).sortedWith(compareBy({ it.start }, { it.index }))
}
