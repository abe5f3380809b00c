package io.github.pannslitert.frontend

import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.ln1p
import kotlin.math.max
import kotlin.math.min

private const val LINEAR_HZ = 200.0 / 3.0
private val LOG_STEP = ln(6.4) / 27.0

/**
 * The mel basis of a specification: triangular filters, row-major, shape [nMels][bins]. It is that of `mel_basis` in the
 * Python runtime, except for the rounding of logarithms.
 */
internal fun melBasis(spec: FrontEndSpec): FloatArray {
    val kaldi = spec.melScale == "kaldi"
    val mel = if (kaldi) ::kaldiMel else ::slaneyMel
    val low = mel(spec.fmin)
    val step = (mel(spec.fmax) - low) / (spec.nMels + 1)
    val hz = DoubleArray(spec.bins) { it * (spec.sampleRate.toDouble() / spec.nFft) }
    // Kaldi's triangles are linear in mel, Slaney's in Hz.
    val at = if (kaldi) DoubleArray(spec.bins) { kaldiMel(hz[it]) } else hz
    val edges = DoubleArray(spec.nMels + 2) { (low + it * step).let { edge -> if (kaldi) edge else slaneyHz(edge) } }
    val basis = FloatArray(spec.nMels * spec.bins)
    for (band in 0 until spec.nMels) {
        val (left, centre, right) = List(3) { edges[band + it] }
        val height = if (kaldi) 1.0 else 2.0 / (right - left)
        for (bin in 0 until spec.bins) {
            val share = min((at[bin] - left) / (centre - left), (right - at[bin]) / (right - centre))
            basis[band * spec.bins + bin] = (max(0.0, share) * height).toFloat()
        }
    }
    return basis
}

/** Kaldi's mel scale (feat/mel-computations.h). */
private fun kaldiMel(hz: Double): Double = 1127.0 * ln1p(hz / 700.0)

/** Slaney's mel scale: linear below 1 kHz, then 27 mels per factor 6.4. */
private fun slaneyMel(hz: Double): Double = if (hz < 1000.0) hz / LINEAR_HZ else 15.0 + ln(hz / 1000.0) / LOG_STEP

private fun slaneyHz(mel: Double): Double =
    if (mel < 15.0) mel * LINEAR_HZ else 1000.0 * exp((mel - 15.0) * LOG_STEP)
