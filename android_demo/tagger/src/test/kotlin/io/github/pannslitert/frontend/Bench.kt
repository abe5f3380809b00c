package io.github.pannslitert.frontend

import com.google.gson.Gson
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import io.github.pannslitert.readFloats
import io.github.pannslitert.spec
import io.github.pannslitert.writeFloats
import java.io.File

/**
 * Compares what the front end costs with what a textbook implementation costs. Both alternate on the same inputs in one
 * JVM.
 *
 * Argument: a JSON file with a list of cases. Each has a `spec`, the files of float32 `basis` and `input`, and `output`:
 * the log-mel of each implementation goes to `output`.NAME. Prints JSON: the version of the JVM, and for each case and
 * implementation the median CPU time of a call in milliseconds and the bytes that a call allocates.
 */
fun main(args: Array<String>) {
    val cases = JsonParser.parseString(File(args[0]).readText()).asJsonArray.map { Case(it.asJsonObject) }
    repeat(WARM_UP) { for (case in cases) case.candidates.values.forEach { it() } }
    val costs = cases.map { case ->
        val times = case.candidates.mapValues { mutableListOf<Double>() }
        repeat(TURNS) {
            for ((name, run) in case.candidates) {
                run() // not timed: the caches still hold the data of the other implementation
                repeat(RUNS_PER_TURN) { times.getValue(name) += milliseconds(run) }
            }
        }
        case.write()
        case.candidates.mapValues { (name, run) ->
            mapOf("ms" to times.getValue(name).sorted()[TURNS * RUNS_PER_TURN / 2], "bytes" to bytesAllocated(run))
        }
    }
    println(Gson().toJson(mapOf("jvm" to System.getProperty("java.vm.version"), "costs" to costs)))
}

private class Case(json: JsonObject) {
    private val spec = spec(json)
    private val basis = readFloats(File(json["basis"].asString))
    private val input = readFloats(File(json["input"].asString))
    private val ours = LogMel(spec, basis)
    private val textbook = TextbookLogMel(spec, basis)
    private val output = json["output"].asString
    private val results = listOf("tagger", "textbook").associateWith {
        FloatArray(spec.frames(input.size) * spec.nMels)
    }

    val candidates = mapOf(
        "tagger" to { ours.compute(input, results.getValue("tagger")) },
        "textbook" to { textbook.compute(input, results.getValue("textbook")) },
    )

    fun write() = results.forEach { (name, logMel) -> writeFloats(File("$output.$name"), logMel) }
}

private fun milliseconds(run: () -> Unit): Double {
    val start = cpuNanoseconds()
    run()
    return (cpuNanoseconds() - start) / 1e6
}

// After this many runs of every case, the JVM has compiled both at the highest level.
private const val WARM_UP = 5
private const val TURNS = 5
private const val RUNS_PER_TURN = 5
