package io.github.pannslitert

import java.util.Random
import kotlin.math.PI
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin

/** A tone, its level rising and falling, in noise. */
internal fun sound(samples: Int, rate: Int, seed: Long = 0): FloatArray {
    val random = Random(seed)
    return FloatArray(samples) { i ->
        val tone = 0.5 * sin(2.0 * PI * 440.0 * i / rate) * sin(2.0 * PI * 1.5 * i / rate)
        (tone + 1e-3 * random.nextGaussian()).toFloat()
    }
}

/** Triangles of height 1, straight in nepers of frequency: not a basis of any network, but one of the right form. */
internal fun triangles(spec: FrontEndSpec): FloatArray {
    val low = ln(max(spec.fmin, 20.0))
    val step = (ln(spec.fmax) - low) / (spec.nMels + 1)
    return FloatArray(spec.nMels * spec.bins) { at ->
        val hz = (at % spec.bins) * spec.sampleRate.toDouble() / spec.nFft
        val band = at / spec.bins
        val (left, centre, right) = List(3) { exp(low + (band + it) * step) }
        max(0.0, min((hz - left) / (centre - left), (right - hz) / (right - centre))).toFloat()
    }
}

/** Fails unless [run] throws a [T] whose message contains [message]. */
internal inline fun <reified T : Throwable> assertRefused(message: String, run: () -> Unit) {
    try {
        run()
    } catch (error: Throwable) {
        if (error is T && message in error.message.orEmpty()) return
        throw AssertionError("expected ${T::class.java.simpleName} with \"$message\"", error)
    }
    throw AssertionError("nothing was refused; expected ${T::class.java.simpleName} with \"$message\"")
}
