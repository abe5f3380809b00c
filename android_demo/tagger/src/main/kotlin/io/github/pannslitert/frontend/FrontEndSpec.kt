package io.github.pannslitert.frontend

import io.github.pannslitert.BundleException
import io.github.pannslitert.SpecException
import io.github.pannslitert.StrictJson
import kotlin.math.abs
import kotlin.math.min
import kotlin.math.round

/**
 * Parameters of a log-mel spectrogram, checked on construction. The properties are the fields of `front_end` in a
 * manifest.
 *
 * Three definitions are implemented. A mixture of them is rejected.
 * - PANNs: [melScale] "slaney"; centred frames of the reflect-padded waveform, in decibels.
 * - EfficientAT: [melScale] "kaldi" with [center]; pre-emphasis of the whole waveform, which makes it one sample
 *   shorter.
 * - AST: [melScale] "kaldi" without [center]; only frames that lie completely within the waveform. The mean of each
 *   frame is subtracted, then pre-emphasis is applied, as in Kaldi's compute-fbank-feats. The result has [paddedFrames]
 *   frames.
 *
 * @property sampleRate Hz, > 0
 * @property nFft samples, a power of two, ≥ 4
 * @property winLength samples, 1 … [nFft]
 * @property hopLength samples from one frame to the next, ≥ 1
 * @property nMels number of mel bands, ≥ 1
 * @property fmin lower edge of the lowest band, Hz, 0 ≤ fmin < fmax
 * @property fmax upper edge of the highest band, Hz, ≤ sampleRate / 2
 * @property log "10log10" for decibels, or "ln" for nepers
 * @property amin lower limit of the mel power, > 0; 0 if there is a [logOffset]
 * @property logOffset added to the mel power before the logarithm, > 0; or null
 * @property preEmphasis factor a of x[t] − a·x[t − 1], 0 ≤ a < 1; 0 for no pre-emphasis
 * @property affine offset and scale of (log-mel + offset) / scale, scale > 0; or null
 * @property removeDc whether the mean of each frame is subtracted
 * @property paddedFrames number of frames of the result, or null if the waveform decides it. Further frames are cut
 *     off; missing frames are 0 before [affine]
 * @throws SpecException a value is out of range, or not implemented together with the others
 */
data class FrontEndSpec(
    val sampleRate: Int,
    val nFft: Int,
    val winLength: Int,
    val hopLength: Int,
    val nMels: Int,
    val fmin: Double,
    val fmax: Double,
    val window: String,
    val center: Boolean,
    val padMode: String,
    val power: Double,
    val melScale: String,
    val melNorm: String?,
    val log: String,
    val amin: Double,
    val logOffset: Double?,
    val preEmphasis: Double,
    val affine: Affine?,
    val removeDc: Boolean,
    val paddedFrames: Int?,
) {
    /** (x + [offset]) / [scale]. */
    data class Affine(val offset: Double, val scale: Double)

    init {
        for ((name, value) in listOf(
            "sample_rate" to sampleRate,
            "n_fft" to nFft,
            "win_length" to winLength,
            "hop_length" to hopLength,
            "n_mels" to nMels,
            "padded_frames" to (paddedFrames ?: 1),
        )) {
            require(value >= 1) { "$name = $value; expected a whole number ≥ 1" }
        }
        require(nFft >= 4 && Integer.bitCount(nFft) == 1) { "n_fft = $nFft; expected a power of two ≥ 4" }
        require(winLength <= nFft) { "win_length = $winLength; expected at most n_fft = $nFft" }
        require(0.0 <= fmin && fmin < fmax && fmax <= sampleRate / 2.0) {
            "fmin = $fmin, fmax = $fmax; expected 0 ≤ fmin < fmax ≤ ${sampleRate / 2.0} (half the sample rate)"
        }
        choice("pad_mode", padMode, "reflect")
        choice("power", power, 2.0)
        choice("mel_scale", melScale, "slaney", "kaldi")
        if (melScale == "slaney") requirePanns() else requireKaldi()
        val floor = logOffset ?: amin
        require(floor >= java.lang.Float.MIN_NORMAL && floor <= Float.MAX_VALUE) {
            "${if (logOffset == null) "amin" else "log_offset"} = $floor; expected ≥ ${java.lang.Float.MIN_NORMAL}"
        }
    }

    private fun requirePanns() {
        val where = " with mel_scale = \"slaney\""
        choice("window", window, "hann", where = where)
        choice("center", center, true, where = where)
        choice("mel_norm", melNorm, "slaney", where = where)
        choice("log", log, "10log10", where = where)
        choice("log_offset", logOffset, null, where = where)
        choice("pre_emphasis", preEmphasis, 0.0, where = where)
        choice("affine", affine, null, where = where)
        choice("remove_dc", removeDc, false, where = where)
        choice("padded_frames", paddedFrames, null, where = where)
    }

    private fun requireKaldi() {
        val where = " with mel_scale = \"kaldi\" and center = $center"
        choice("window", window, "hann_symmetric", where = where)
        choice("mel_norm", melNorm, null, where = where)
        choice("log", log, "ln", where = where)
        choice("remove_dc", removeDc, !center, where = where)
        require(0.0 < preEmphasis && preEmphasis < 1.0) {
            "pre_emphasis = $preEmphasis; expected a number between 0 and 1"
        }
        require(
            affine != null && abs(affine.offset) <= Float.MAX_VALUE &&
                affine.scale >= java.lang.Float.MIN_NORMAL && affine.scale <= Float.MAX_VALUE,
        ) { "affine = $affine; expected (offset, scale), two numbers, scale > 0" }
        if (center) {
            choice("amin", amin, 0.0, where = where)
            choice("padded_frames", paddedFrames, null, where = where)
            require(logOffset != null) { "log_offset = null; expected a number > 0" }
        } else {
            choice("log_offset", logOffset, null, where = where)
        }
    }

    private fun <T> choice(name: String, value: T, vararg choices: T, where: String = "") =
        require(value in choices) { "$name = $value is not implemented$where; expected ${choices.joinToString()}" }

    private inline fun require(holds: Boolean, message: () -> String) {
        if (!holds) throw SpecException("front end: ${message()}")
    }

    /** Number of frequency bins of the spectrum, [nFft] / 2 + 1. */
    val bins: Int get() = nFft / 2 + 1

    /** Number of samples by which pre-emphasis of the whole waveform shortens it. */
    internal val lostSamples: Int get() = if (center && preEmphasis > 0.0) 1 else 0

    /**
     * Shortest possible waveform, samples. With [center] it is what reflection by [nFft] / 2 needs, without it one
     * frame.
     */
    val leastSamples: Int get() = if (center) nFft / 2 + 1 + lostSamples else winLength

    /** Longest waveform of which nothing is cut off, samples; null if there is no limit. */
    internal val mostSamples: Long? get() = paddedFrames?.let { winLength + it.toLong() * hopLength - 1 }

    /** Number of frames for a waveform of [samples] ≥ [leastSamples]. */
    fun frames(samples: Int): Int = paddedFrames ?: filledFrames(samples)

    /** Number of frames that are computed from the waveform: [frames] without the frames that are only filled up. */
    internal fun filledFrames(samples: Int): Int {
        val found = if (center) (samples - lostSamples) / hopLength + 1 else (samples - winLength) / hopLength + 1
        return min(found, paddedFrames ?: found)
    }

    /** Number of samples in [seconds], rounded half to even. */
    fun samples(seconds: Double): Int = round(seconds * sampleRate).toInt()

    companion object {
        /**
         * Reads all fields of a manifest's `front_end`. The caller checks that there is no other field.
         *
         * @throws SpecException a value is out of range or not implemented
         * @throws BundleException a field is missing or of another type
         */
        internal fun from(json: StrictJson): FrontEndSpec =
            FrontEndSpec(
                sampleRate = json.int("sample_rate"),
                nFft = json.int("n_fft"),
                winLength = json.int("win_length"),
                hopLength = json.int("hop_length"),
                nMels = json.int("n_mels"),
                fmin = json.number("fmin"),
                fmax = json.number("fmax"),
                window = json.string("window"),
                center = json.boolean("center"),
                padMode = json.string("pad_mode"),
                power = json.number("power"),
                melScale = json.string("mel_scale"),
                melNorm = json.optional("mel_norm", StrictJson::string),
                log = json.string("log"),
                amin = json.number("amin"),
                logOffset = json.optional("log_offset", StrictJson::number),
                preEmphasis = json.number("pre_emphasis"),
                affine = json.optional("affine", StrictJson::numbers)?.let { pair ->
                    if (pair.size != 2) throw SpecException("front end: affine = $pair; expected (offset, scale)")
                    Affine(pair[0], pair[1])
                },
                removeDc = json.boolean("remove_dc"),
                paddedFrames = json.optional("padded_frames", StrictJson::int),
            )
    }
}
