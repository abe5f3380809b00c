package io.github.pannslitert

import java.util.Random
import kotlin.math.PI
import kotlin.math.sin

/** A 440 Hz tone of varying level, with noise. */
internal fun sound(samples: Int, rate: Int, seed: Long = 0): FloatArray {
    val random = Random(seed)
    return FloatArray(samples) { i ->
        val tone = 0.5 * sin(2.0 * PI * 440.0 * i / rate) * sin(2.0 * PI * 1.5 * i / rate)
        (tone + 1e-3 * random.nextGaussian()).toFloat()
    }
}
