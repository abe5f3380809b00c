package io.github.pannslitert.frontend

import com.google.gson.Gson
import io.github.pannslitert.readFloats
import java.io.File

/**
 * Compares the speed of the front end with that of a textbook implementation. Both alternate on the same inputs in one
 * JVM.
 *
 * Arguments: mel_basis.bin of Cnn14, then files of float32 samples at 32 kHz. Prints JSON: for each file name, the
 * median time of both in milliseconds.
 */
fun main(args: Array<String>) {
    val basis = readFloats(File(args[0]))
    val front = LogMel(PANNS_32K, basis)
    val yardstick = TextbookLogMel(PANNS_32K, basis)
    val sounds = args.drop(1).map(::File).associateWith(::readFloats)
    val out = FloatArray(sounds.values.maxOf { PANNS_32K.frames(it.size) } * PANNS_32K.nMels)
    val candidates = mapOf<String, (FloatArray) -> Unit>(
        "tagger" to { front.compute(it, out) },
        "textbook" to { yardstick.compute(it, out) },
    )
    repeat(WARM_UP) { for (run in candidates.values) sounds.values.forEach(run) }
    val medians = sounds.entries.associate { (file, samples) ->
        val times = candidates.mapValues { mutableListOf<Double>() }
        repeat(TURNS) {
            for ((name, run) in candidates) {
                run(samples) // not timed: the caches still hold the data of the other implementation
                repeat(RUNS_PER_TURN) { times.getValue(name) += milliseconds { run(samples) } }
            }
        }
        file.name to times.mapValues { (_, ms) -> ms.sorted()[ms.size / 2] }
    }
    println(Gson().toJson(medians))
}

private fun milliseconds(run: () -> Unit): Double {
    val start = System.nanoTime()
    run()
    return (System.nanoTime() - start) / 1e6
}

// After this many runs, the JVM has compiled both at the highest level.
private const val WARM_UP = 20
private const val TURNS = 5
private const val RUNS_PER_TURN = 5
