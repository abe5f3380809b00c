package io.github.pannslitert.events

import com.google.gson.JsonObject
import io.github.pannslitert.floatArray

/** The detector of a case in the format of tests/vectors/onsets.json; its classes are "0", "1", … */
internal fun named(case: JsonObject, listener: EventListener): EventDetector {
    val labels = List(case["classes"].asInt) { "$it" }
    fun of(name: String) = case[name]?.asJsonArray
    val own = labels.indices.associate { i ->
        labels[i] to EventSettings.Own(on = of("on")?.get(i)?.asDouble, off = of("off")?.get(i)?.asDouble)
    }
    val (minDuration, maxGap, cooldown) = listOf("min_duration", "max_gap", "cooldown").map { case[it].asDouble }
    val settings = EventSettings(minDuration = minDuration, maxGap = maxGap, cooldown = cooldown, classes = own)
    return EventDetector(labels, settings, listener)
}

/** The scores of a step, if it has some. */
internal fun scores(step: JsonObject): FloatArray? =
    step["scores"].takeUnless { it.isJsonNull }?.asJsonArray?.map { atLeast(it.asDouble) }?.toFloatArray()

/** What is told at each step of a case, and at the end. */
internal fun changes(case: JsonObject): List<List<EventChange>> = case["changes"].asJsonArray.map { step ->
    step.asJsonArray.map { it.asJsonObject }.map { row ->
        val index = row["index"].asInt
        val (start, end) = row["start"].asDouble to row["end"].asDouble
        val event = Event(index, start, end, atLeast(row["score"].asDouble), "$index")
        EventChange(EventChange.Phase.valueOf(row["phase"].asString.uppercase()), row["number"].asInt, event)
    }
}

/** A float that is not below [decimal], because thresholds are compared as double. */
private fun atLeast(decimal: Double): Float = decimal.toFloat().let { if (it < decimal) Math.nextUp(it) else it }

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
