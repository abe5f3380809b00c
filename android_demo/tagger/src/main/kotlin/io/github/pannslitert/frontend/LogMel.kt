package io.github.pannslitert.frontend

import io.github.pannslitert.AudioException
import io.github.pannslitert.SpecException
import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.ln
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.min

/**
 * Log-mel spectrogram of a waveform, computed in float64. An instance holds all scratch memory: use one per thread.
 *
 * [LANES] frames are computed together, see [LaneFft]. A float32 FFT would not be precise enough for every frame of a
 * recording: its noise in every bin is about 1e-7 of the frame's amplitude, which changes the quietest bands beside a
 * loud sound by up to 0.02 dB. Nor would it save much time on a JVM: 5 % with 64 lanes, a quarter with 128.
 *
 * @param basis mel basis, row-major, shape [nMels][bins], as in mel_basis.bin
 * @throws SpecException the size of the basis does not match the spec, or it holds NaN or Inf
 */
class LogMel(val spec: FrontEndSpec, basis: FloatArray) {
    private val filters = filtersOf(spec, basis)
    private val spectrum = LanePower(spec.nFft, LANES)
    private val window = window(spec)
    private val margin = if (spec.center) spec.nFft / 2 else 0
    private val stretch = DoubleArray((LANES - 1) * spec.hopLength + spec.nFft)
    private val mean = DoubleArray(LANES)
    private val mel = DoubleArray(LANES)
    private val argument = DoubleArray(LANES)
    private val logarithm = LaneLog(LANES)

    private val floor = spec.amin
    private val underLog = spec.logOffset ?: 0.0
    private val perNeper = if (spec.log == "ln") 1.0 else 10.0 / ln(10.0)
    private val shift = spec.affine?.offset ?: 0.0
    private val factor = 1.0 / (spec.affine?.scale ?: 1.0)
    // Digital silence gives exactly the floor, without a rounding error of the logarithm.
    private val atFloor = finished(if (spec.log == "ln") ln(floor) else 10.0 * log10(floor))
    private val filler = finished(0.0)

    /**
     * Computes the log-mel of one waveform. Allocates no memory.
     *
     * @param waveform samples, nominally within [-1, 1]; NaN or Inf gives NaN or Inf
     * @param out receives the result from index 0, row-major, shape [frames][nMels]; in decibels, or in the unit that
     *     the spec defines
     * @param samples number of samples of [waveform] to use, at least `spec.leastSamples`
     * @throws AudioException the number of samples is out of range, or [out] is too small
     */
    fun compute(waveform: FloatArray, out: FloatArray, samples: Int = waveform.size) {
        if (samples > waveform.size || samples < spec.leastSamples) {
            throw AudioException(
                "waveform of $samples samples; expected ${spec.leastSamples} … ${waveform.size}; pad it with zeros",
            )
        }
        val frames = spec.frames(samples)
        if (out.size < frames * spec.nMels) {
            throw AudioException("out of ${out.size} values; expected at least ${frames * spec.nMels}")
        }
        val filled = spec.filledFrames(samples)
        frames(waveform, 0, samples.toLong(), 0, filled, out, 0)
        fill(out, filled, frames)
    }

    /** Computes the log-mel of one waveform into a new array. */
    fun compute(waveform: FloatArray): FloatArray {
        val out = FloatArray(if (waveform.size < spec.leastSamples) 0 else spec.frames(waveform.size) * spec.nMels)
        compute(waveform, out)
        return out
    }

    /** Sets frames [from] … [to] − 1 to the value of frames for which a waveform is too short. */
    internal fun fill(out: FloatArray, from: Int, to: Int) = out.fill(filler, from * spec.nMels, to * spec.nMels)

    /**
     * Computes frames [first] … [first] + [count] − 1 of a stream of which only a part is in memory.
     *
     * @param part samples of the stream from sample [partStart] on; must contain all samples that the frames need
     * @param length length of the whole stream in samples; [END_UNKNOWN] before its end
     * @param at index of the frame in [out] at which the result starts
     */
    internal fun frames(
        part: FloatArray,
        partStart: Long,
        length: Long,
        first: Long,
        count: Int,
        out: FloatArray,
        at: Int,
    ) {
        var done = 0
        while (done < count) {
            val lanes = min(LANES, count - done)
            takeStretch(part, partStart, length, first + done, lanes)
            block(lanes, out, (at + done) * spec.nMels)
            done += lanes
        }
    }

    /**
     * Copies the samples of [lanes] frames to [stretch], with pre-emphasis and with reflection at the ends of the
     * stream. Also computes the means of the frames, if they are needed.
     */
    private fun takeStretch(part: FloatArray, partStart: Long, length: Long, first: Long, lanes: Int) {
        val lost = spec.lostSamples
        val samples = length - lost
        val start = first * spec.hopLength - margin
        val size = (lanes - 1) * spec.hopLength + if (spec.center) spec.nFft else spec.winLength
        val a = spec.preEmphasis
        // The range of `stretch` that needs no reflection.
        val from = max(0L, -start).toInt()
        val to = min(size.toLong(), samples - start).toInt()
        val offset = (start + lost - partStart).toInt()
        if (a == 0.0) {
            for (j in from until to) stretch[j] = part[j + offset].toDouble()
        } else {
            // Without `lost`, the first sample has no predecessor. Any value will do: the symmetric window is 0 there.
            val skip = if (from + offset == 0) 1 else 0
            if (skip == 1) stretch[from] = 0.0
            for (j in from + skip until to) stretch[j] = part[j + offset] - a * part[j + offset - 1]
        }
        for (j in 0 until from) stretch[j] = stretch[2 * from - j]
        for (j in to until size) {
            val mirrored = 2 * (to - 1) - j
            // A last frame that is centred on the end and computed alone needs the sample before it, too.
            stretch[j] = if (mirrored >= 0) stretch[mirrored] else part[offset - 1] - if (a == 0.0) 0.0 else a * part[offset - 2]
        }
        if (spec.removeDc) takeMeans(part, offset, lanes)
    }

    /**
     * Computes what remains of the mean of each frame after pre-emphasis, (1 − a)·mean. Only the first sample of a
     * frame would need another value, and the window is 0 there.
     */
    private fun takeMeans(part: FloatArray, offset: Int, lanes: Int) {
        for (l in 0 until lanes) {
            var sum = 0.0
            val start = offset + l * spec.hopLength
            for (i in start until start + spec.winLength) sum += part[i]
            mean[l] = (1.0 - spec.preEmphasis) * sum / spec.winLength
        }
    }

    /** Computes the log-mel of [lanes] frames from [stretch] and writes it to [out] from index [at] on. */
    private fun block(lanes: Int, out: FloatArray, at: Int) {
        for (i in window.indices) {
            if (window[i] == 0.0) spectrum.sample(i).fill(0.0) else pack(spectrum.sample(i), i, window[i])
        }
        spectrum.transform()
        for (m in filters.indices) {
            val filter = filters[m]
            mel.fill(0.0)
            for (i in filter.weights.indices) add(mel, spectrum.power(filter.firstBin + i), filter.weights[i])
            floored(mel, argument)
            logarithm.ln(argument)
            for (l in 0 until lanes) out[at + l * spec.nMels + m] = level(mel[l], argument[l])
        }
    }

    private fun pack(row: DoubleArray, sample: Int, weight: Double) {
        val hop = spec.hopLength
        for (l in row.indices) row[l] = (stretch[sample + l * hop] - mean[l]) * weight
    }

    private fun add(sum: DoubleArray, power: DoubleArray, weight: Double) {
        for (l in sum.indices) sum[l] += power[l] * weight
    }

    private fun floored(power: DoubleArray, argument: DoubleArray) {
        for (l in power.indices) argument[l] = max(power[l], floor) + underLog
    }

    private fun level(power: Double, logarithm: Double): Float = when {
        power <= floor && underLog == 0.0 -> atFloor
        power <= Double.MAX_VALUE -> finished(perNeper * logarithm)
        else -> power.toFloat() // NaN or Inf, which LaneLog does not support
    }

    private fun finished(level: Double): Float = ((level + shift) * factor).toFloat()

    /** The weights of one mel filter, from its first to its last non-zero bin. */
    private class Filter(val firstBin: Int, val weights: DoubleArray)

    companion object {
        /** Number of frames that are computed together. On a JVM, 32 take 20 % longer, and more than 64 no less. */
        internal const val LANES = 64

        /** Length of a stream that has not ended. Sums with it do not overflow. */
        internal const val END_UNKNOWN = Long.MAX_VALUE / 2

        private fun filtersOf(spec: FrontEndSpec, basis: FloatArray): Array<Filter> {
            if (basis.size != spec.nMels * spec.bins) {
                throw SpecException("mel basis of ${basis.size} weights; expected ${spec.nMels} × ${spec.bins}")
            }
            if (!basis.all { it.isFinite() }) throw SpecException("mel basis holds NaN or Inf; expected finite weights")
            return Array(spec.nMels) { m ->
                val row = basis.copyOfRange(m * spec.bins, (m + 1) * spec.bins)
                val used = row.indices.filter { row[it] != 0f }
                val bins = if (used.isEmpty()) IntRange.EMPTY else used.first()..used.last()
                Filter(max(0, bins.first), DoubleArray(bins.count()) { row[bins.first + it].toDouble() })
            }
        }

        /** Hann window, zero-padded to n_fft samples: in the middle with `center`, at the start without. */
        private fun window(spec: FrontEndSpec): DoubleArray {
            val length = spec.winLength
            val period = if (spec.window == "hann_symmetric") max(length - 1, 1) else length
            val left = if (spec.center) (spec.nFft - length) / 2 else 0
            return DoubleArray(spec.nFft) { i ->
                if (i - left in 0 until length) 0.5 - 0.5 * cos(2.0 * PI * (i - left) / period) else 0.0
            }
        }
    }
}
