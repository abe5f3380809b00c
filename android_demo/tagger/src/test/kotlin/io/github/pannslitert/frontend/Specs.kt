package io.github.pannslitert.frontend

import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min

/** The front end of Cnn14 and of most PANNs, as `PANNS_32K` in the Python runtime. */
internal val PANNS_32K = FrontEndSpec(
    sampleRate = 32000, nFft = 1024, winLength = 1024, hopLength = 320, nMels = 64, fmin = 50.0, fmax = 14000.0,
    window = "hann", center = true, padMode = "reflect", power = 2.0, melScale = "slaney", melNorm = "slaney",
    log = "10log10", amin = 1e-10, logOffset = null, preEmphasis = 0.0, affine = null, removeDc = false,
    paddedFrames = null,
)

internal val PANNS_8K = PANNS_32K.copy(
    sampleRate = 8000, nFft = 256, winLength = 256, hopLength = 80, fmax = 4000.0,
)

internal val EFFICIENTAT_32K = FrontEndSpec(
    sampleRate = 32000, nFft = 1024, winLength = 800, hopLength = 320, nMels = 128, fmin = 0.0, fmax = 15000.0,
    window = "hann_symmetric", center = true, padMode = "reflect", power = 2.0, melScale = "kaldi", melNorm = null,
    log = "ln", amin = 0.0, logOffset = 1e-5, preEmphasis = 0.97, affine = FrontEndSpec.Affine(4.5, 5.0),
    removeDc = false, paddedFrames = null,
)

internal val AST_16K = FrontEndSpec(
    sampleRate = 16000, nFft = 512, winLength = 400, hopLength = 160, nMels = 128, fmin = 20.0, fmax = 8000.0,
    window = "hann_symmetric", center = false, padMode = "reflect", power = 2.0, melScale = "kaldi", melNorm = null,
    log = "ln", amin = 1.0 / (1 shl 23), logOffset = null, preEmphasis = 0.97,
    affine = FrontEndSpec.Affine(4.2677393, 9.1379948), removeDc = true, paddedFrames = 1024,
)

/**
 * A mel basis of triangles with height 1, spaced evenly in the logarithm of frequency. No network uses it, but it has
 * the right shape.
 */
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
