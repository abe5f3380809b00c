package io.github.pannslitert

import java.util.Random
import kotlin.math.PI
import kotlin.math.sin

/** A tone, its level rising and falling, in noise. */
internal fun sound(samples: Int, rate: Int, seed: Long = 0): FloatArray {
    val random = Random(seed)
    return FloatArray(samples) { i ->
        val tone = 0.5 * sin(2.0 * PI * 440.0 * i / rate) * sin(2.0 * PI * 1.5 * i / rate)
        (tone + 1e-3 * random.nextGaussian()).toFloat()
    }
}
