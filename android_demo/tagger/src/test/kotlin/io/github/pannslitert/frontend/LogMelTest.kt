package io.github.pannslitert.frontend

import io.github.pannslitert.AudioException
import io.github.pannslitert.SpecException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.sound
import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.ln
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Tests that need no reference. tests/android/test_kotlin.py compares the numbers with float64. */
class LogMelTest {
    private val specs = listOf(PANNS_32K, EFFICIENTAT_32K, AST_16K)

    @Test
    fun `silence is exactly the floor`() {
        val logMel = LogMel(PANNS_32K, triangles(PANNS_32K)).compute(FloatArray(32000))
        assertEquals(101 * 64, logMel.size)
        assertTrue(logMel.all { it == -100f })
    }

    @Test
    fun `frames that a waveform does not fill are 0 before the affine step`() {
        val logMel = LogMel(AST_16K, triangles(AST_16K)).compute(sound(16000, 16000))
        assertEquals(1024 * 128, logMel.size)
        val filler = (4.2677393 / 9.1379948).toFloat()
        assertTrue(logMel.drop(98 * 128).all { it == filler })
        assertTrue(logMel.take(98 * 128).none { it == filler })
    }

    @Test
    fun `frames beyond padded_frames are cut off`() {
        val front = LogMel(AST_16K.copy(paddedFrames = 10), triangles(AST_16K))
        val whole = LogMel(AST_16K, triangles(AST_16K)).compute(sound(16000, 16000))
        assertEquals(whole.take(10 * 128), front.compute(sound(16000, 16000)).toList())
    }

    /** The last frame of such a waveform is computed alone, and reflected before its start. */
    @Test
    fun `a frame more than the lanes`() {
        for (spec in listOf(PANNS_32K, EFFICIENTAT_32K)) {
            val samples = sound(LogMel.LANES * spec.hopLength + spec.lostSamples, spec.sampleRate)
            val logMel = LogMel(spec, triangles(spec))
            val found = logMel.compute(samples)
            assertEquals((LogMel.LANES + 1) * spec.nMels, found.size)
            val last = FloatArray(2 * spec.nMels)
            logMel.frames(samples, 0, samples.size.toLong(), LogMel.LANES - 1L, 2, last, 0)
            assertEquals(last.drop(spec.nMels), found.takeLast(spec.nMels))
        }
    }

    @Test
    fun `nothing is allocated after construction`() {
        for (spec in specs) {
            val front = LogMel(spec, triangles(spec))
            val samples = sound(3 * spec.sampleRate, spec.sampleRate)
            val out = FloatArray(spec.frames(samples.size) * spec.nMels)
            val stream = StreamingLogMel(spec, triangles(spec), spec.sampleRate, 10)
            val listener = Windows.Listener { _, _, _ -> }
            assertEquals(0L, bytesAllocated { front.compute(samples, out) })
            assertEquals(0L, bytesAllocated { stream.push(samples, listener = listener) })
            assertTrue(bytesAllocated { front.compute(samples) } >= 4L * out.size)
        }
    }

    @Test
    fun `the result does not depend on what was computed before`() {
        for (spec in specs) {
            val front = LogMel(spec, triangles(spec))
            val samples = sound(spec.sampleRate, spec.sampleRate)
            val first = front.compute(samples)
            front.compute(FloatArray(2 * spec.sampleRate) { if (it % 7 == 0) Float.NaN else 1e30f })
            assertEquals(first.toList(), front.compute(samples).toList())
        }
    }

    @Test
    fun `NaN and infinity appear in the output`() {
        for (bad in listOf(Float.NaN, Float.POSITIVE_INFINITY)) {
            val samples = sound(32000, 32000).also { it[16000] = bad }
            val logMel = LogMel(PANNS_32K, triangles(PANNS_32K)).compute(samples)
            assertTrue(!logMel[50 * 64 + 40].isFinite())
            assertTrue(logMel[10 * 64 + 40].isFinite())
        }
    }

    @Test
    fun `logarithm to 1e-12`() {
        val x = DoubleArray(64) { 1.0001 * Math.pow(10.0, it / 4.0 - 12.0) }
        val expected = DoubleArray(64) { ln(x[it]) }
        LaneLog(64).ln(x)
        for (i in x.indices) assertEquals(expected[i], x[i], 1e-12)
    }

    @Test
    fun `the FFT of every size equals the sum that defines it`() {
        for (size in listOf(2, 4, 8, 32, 128)) {
            val fft = LaneFft(size, 3)
            val re = Array(size) { i -> DoubleArray(3) { l -> cos(1.0 + i * (l + 1) * 0.37) } }
            for (i in 0 until size) {
                re[i].copyInto(fft.re[i])
                re[size - 1 - i].copyInto(fft.im[i])
            }
            fft.transform()
            for (k in 0 until size) {
                for (l in 0 until 3) {
                    var sumR = 0.0
                    var sumI = 0.0
                    for (i in 0 until size) {
                        val angle = -2.0 * PI * i * k / size
                        sumR += re[i][l] * cos(angle) - re[size - 1 - i][l] * Math.sin(angle)
                        sumI += re[i][l] * Math.sin(angle) + re[size - 1 - i][l] * cos(angle)
                    }
                    assertEquals(sumR, fft.re[fft.order[k]][l], 1e-11)
                    assertEquals(sumI, fft.im[fft.order[k]][l], 1e-11)
                }
            }
        }
    }

    @Test
    fun `a waveform that is too short is refused, the shortest possible one is not`() {
        for (spec in specs) {
            val front = LogMel(spec, triangles(spec))
            for (samples in listOf(0, 1, 79, spec.leastSamples - 1)) {
                assertRefused<AudioException>("pad it with zeros") { front.compute(FloatArray(samples)) }
            }
            assertTrue(front.compute(sound(spec.leastSamples, spec.sampleRate)).all { it.isFinite() })
        }
    }

    @Test
    fun `an output that is too small is refused`() {
        val front = LogMel(PANNS_32K, triangles(PANNS_32K))
        assertRefused<AudioException>("expected at least 6464") { front.compute(FloatArray(32000), FloatArray(6463)) }
    }

    @Test
    fun `a basis of another shape is refused`() {
        assertRefused<SpecException>("expected 64 × 513") { LogMel(PANNS_32K, FloatArray(64 * 512)) }
        assertRefused<SpecException>("NaN") { LogMel(PANNS_32K, FloatArray(64 * 513) { Float.NaN }) }
    }

    @Test
    fun `a spec that is not implemented is refused`() {
        val p = PANNS_32K
        val changes = listOf(
            { p.copy(nFft = 1000, winLength = 1000) },
            { p.copy(winLength = 2048) },
            { p.copy(hopLength = 0) },
            { p.copy(fmin = 14000.0) },
            { p.copy(fmax = 16001.0) },
            { p.copy(fmin = Double.NaN) },
            { p.copy(window = "hamming") },
            { p.copy(center = false) },
            { p.copy(power = 1.0) },
            { p.copy(melNorm = null) },
            { p.copy(log = "ln") },
            { p.copy(amin = 0.0) },
            { p.copy(logOffset = 1e-5) },
            { p.copy(preEmphasis = 0.97) },
            { p.copy(removeDc = true) },
            { p.copy(paddedFrames = 1024) },
            { p.copy(melScale = "htk") },
            { p.copy(padMode = "constant") },
            { EFFICIENTAT_32K.copy(preEmphasis = 1.0) },
            { EFFICIENTAT_32K.copy(affine = null) },
            { EFFICIENTAT_32K.copy(logOffset = null) },
            { EFFICIENTAT_32K.copy(center = false) },
            { AST_16K.copy(removeDc = false) },
            { AST_16K.copy(amin = 0.0) },
            { AST_16K.copy(affine = FrontEndSpec.Affine(0.0, 0.0)) },
            { AST_16K.copy(paddedFrames = 0) },
        )
        for (change in changes) assertRefused<SpecException>("expected") { change() }
    }
}
