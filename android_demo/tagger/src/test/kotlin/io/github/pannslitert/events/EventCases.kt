package io.github.pannslitert.events

import com.google.gson.JsonObject
import io.github.pannslitert.floatArray

/** Runs a case in the format of tests/vectors/events.json and returns its events, sorted by start, then class. */
internal fun events(case: JsonObject): List<Event> {
    val detector = EventDetector(
        on = floatArray(case["on"].asJsonArray),
        off = floatArray(case["off"].asJsonArray),
        minDuration = case["min_duration"].asDouble,
        maxGap = case["max_gap"].asDouble,
    )
    val found = case["steps"].asJsonArray.map { it.asJsonObject }.flatMap { step ->
        detector.push(floatArray(step["scores"].asJsonArray), step["start"].asDouble, step["end"].asDouble)
    }
    return (found + detector.finish()).sortedWith(compareBy({ it.start }, { it.index }))
}
