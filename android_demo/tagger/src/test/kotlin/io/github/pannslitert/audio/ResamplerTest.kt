package io.github.pannslitert.audio

import io.github.pannslitert.AudioException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.sound
import java.util.Random
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Passband, aliases and the comparison with soxr are tested in tests/android/test_kotlin.py. */
class ResamplerTest {
    private val rates = listOf(8000, 11025, 16000, 22050, 32000, 44100, 47999, 48000, 96000)

    @Test
    fun `any chunking gives bit-identical samples`() {
        val random = Random(1)
        for (from in rates) {
            for (to in listOf(8000, 16000, 32000)) {
                val samples = sound(12345, from)
                val resampler = Resampler(from, to)
                val whole = resampler.push(samples) + resampler.finish()
                assertEquals((12345L * to + from - 1) / from, whole.size.toLong())
                for (largest in listOf(1, 700, 9000)) { // also tests that a resampler can be used again after finish
                    var parts = FloatArray(0)
                    var at = 0
                    while (at < samples.size) {
                        val count = minOf(1 + random.nextInt(largest), samples.size - at)
                        parts += resampler.push(samples, at, count)
                        at += count
                    }
                    assertEquals(whole.toList(), (parts + resampler.finish()).toList())
                    if (largest == 1 && from != 44100) break
                }
            }
        }
    }

    @Test
    fun `a constant signal stays constant`() {
        for (from in rates) {
            val out = Resampler(from, 32000).push(FloatArray(from) { 0.5f })
            val settled = out.drop(500)
            assertTrue(settled.size > 1000 && settled.all { it == 0.5f })
        }
    }

    @Test
    fun `the same rate changes nothing`() {
        val resampler = Resampler(32000, 32000)
        assertEquals(sound(1000, 32000).toList(), (resampler.push(sound(1000, 32000)) + resampler.finish()).toList())
    }

    @Test
    fun `no input gives no output`() {
        val resampler = Resampler(44100, 32000)
        assertEquals(0, resampler.push(FloatArray(0)).size + resampler.finish().size)
    }

    @Test
    fun `rates out of range are refused`() {
        for (rate in listOf(0, -1, 999, 768_001)) {
            assertRefused<AudioException>("expected 1000 … 768000") { Resampler(rate, 32000) }
            assertRefused<AudioException>("expected 1000 … 768000") { Resampler(32000, rate) }
        }
        assertRefused<AudioException>("within") { Resampler(44100, 32000).push(FloatArray(10), 8, 3) }
    }
}
