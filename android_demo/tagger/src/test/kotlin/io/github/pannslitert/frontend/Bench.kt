package io.github.pannslitert.frontend

import com.google.gson.Gson
import io.github.pannslitert.readFloats
import java.io.File

/**
 * Times the front end and the yardstick in turns, on the same 10 s, in one JVM.
 *
 * Arguments: mel_basis.bin of Cnn14, then files of float32 samples at 32 kHz. Prints JSON: file name to the median
 * milliseconds of both.
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
                run(samples) // not counted: it finds the other's data in the caches
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

// After that both are compiled at the highest level.
private const val WARM_UP = 20
private const val TURNS = 5
private const val RUNS_PER_TURN = 5
