package io.github.pannslitert

import com.google.gson.Gson
import com.google.gson.JsonArray
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import io.github.pannslitert.audio.Resampler
import io.github.pannslitert.events.events
import io.github.pannslitert.frontend.FrontEndSpec
import io.github.pannslitert.frontend.LogMel
import io.github.pannslitert.frontend.StreamingLogMel
import io.github.pannslitert.frontend.Windows
import java.io.File

/**
 * Runs the cases of tests/android/test_kotlin.py, which compares the results.
 *
 * Argument: a JSON file with a list of cases. Each case has the function to call in `run`, its input and output files
 * (little-endian float32; JSON for events), and the arguments of the function.
 */
fun main(args: Array<String>) {
    for (case in JsonParser.parseString(File(args[0]).readText()).asJsonArray.map { it.asJsonObject }) {
        when (val run = case["run"].asString) {
            "logmel" -> write(case, LogMel(spec(case), floats(case, "basis")).compute(floats(case, "input")))
            "streaming" -> write(case, streaming(case))
            "resample" -> write(case, resampled(case))
            "events" -> File(case["output"].asString).writeText(Gson().toJson(events(case)))
            else -> error("unknown case $run")
        }
    }
}

/** The front end in the field `spec` of a case. */
internal fun spec(case: JsonObject): FrontEndSpec =
    StrictJson.parse(case["spec"].toString(), "front_end").whole(FrontEndSpec::from)

private fun floats(case: JsonObject, name: String): FloatArray = readFloats(File(case[name].asString))

private fun write(case: JsonObject, values: FloatArray) = writeFloats(File(case["output"].asString), values)

/** All windows of the stream, concatenated. */
private fun streaming(case: JsonObject): FloatArray {
    val windows = mutableListOf<FloatArray>()
    val front = StreamingLogMel(spec(case), floats(case, "basis"), case["window"].asInt, case["hop"].asInt)
    val listener = Windows.Listener { input, _, _ -> windows += input.copyOf() }
    forEachChunk(floats(case, "input"), case["chunks"].asJsonArray) { samples, from, count ->
        front.push(samples, from, count, listener)
    }
    front.finish(listener)
    return concatenated(windows)
}

private fun resampled(case: JsonObject): FloatArray {
    val parts = mutableListOf<FloatArray>()
    val resampler = Resampler(case["from"].asInt, case["to"].asInt)
    forEachChunk(floats(case, "input"), case["chunks"].asJsonArray) { samples, from, count ->
        parts += resampler.push(samples, from, count)
    }
    parts += resampler.finish()
    return concatenated(parts)
}

/** Calls [take] with chunks of the given sizes, repeating the sizes until the samples end. */
private fun forEachChunk(samples: FloatArray, sizes: JsonArray, take: (FloatArray, Int, Int) -> Unit) {
    var from = 0
    var turn = 0
    while (from < samples.size) {
        val count = minOf(sizes[turn++ % sizes.size()].asInt, samples.size - from)
        take(samples, from, count)
        from += count
    }
}

private fun concatenated(parts: List<FloatArray>): FloatArray {
    val all = FloatArray(parts.sumOf { it.size })
    var at = 0
    for (part in parts) {
        part.copyInto(all, at)
        at += part.size
    }
    return all
}
