package io.github.pannslitert.frontend

import io.github.pannslitert.AudioException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.sound
import java.util.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class StreamingLogMelTest {
    private class Stream(val spec: FrontEndSpec, windowSamples: Int, hop: Int) {
        val front = StreamingLogMel(spec, triangles(spec), windowSamples, hop)
        val windows = mutableListOf<FloatArray>()
        val starts = mutableListOf<Long>()
        val listener = Windows.Listener { input, start, _ ->
            windows += input.copyOf()
            starts += start
        }

        fun pushInChunks(samples: FloatArray, seed: Long, largest: Int) {
            val random = Random(seed)
            var from = 0
            while (from < samples.size) {
                val count = minOf(random.nextInt(largest + 1), samples.size - from)
                front.push(samples, from, count, listener)
                from += count
            }
        }
    }

    /** Every window is bit-identical to a part of the log-mel of the whole stream, edges included. */
    @Test
    fun `any chunking gives the offline frames`() {
        for (spec in listOf(PANNS_32K, EFFICIENTAT_32K)) {
            val samples = sound(4 * spec.sampleRate + 5123, spec.sampleRate)
            val whole = LogMel(spec, triangles(spec)).compute(samples)
            for ((seed, largest) in listOf(1, 100, 5000, 200_000).withIndex()) {
                val stream = Stream(spec, spec.sampleRate, 30)
                stream.pushInChunks(samples, seed.toLong(), largest)
                stream.front.finish(stream.listener)
                // The last window is shifted back by 14 of the 30 frames of a hop.
                assertEquals(((0..300 step 30) + 316).map { it.toLong() * spec.hopLength }, stream.starts)
                for ((i, window) in stream.windows.withIndex()) {
                    val from = stream.starts[i].toInt() / spec.hopLength * spec.nMels
                    assertArrayEquals(whole.copyOfRange(from, from + window.size), window, 0f)
                }
            }
        }
    }

    /** Except at its edges, a window equals the log-mel of its own samples as a clip. */
    @Test
    fun `except at its edges a window equals the log-mel of its own samples`() {
        val spec = PANNS_32K
        val samples = sound(96000, 32000)
        val stream = Stream(spec, 32000, 50)
        stream.pushInChunks(samples, 1, 1000)
        for ((i, window) in stream.windows.withIndex()) {
            val start = stream.starts[i].toInt()
            val clip = LogMel(spec, triangles(spec)).compute(samples.copyOfRange(start, start + 32000))
            val inner = 2 * 64 until 99 * 64 // a frame extends 512 samples to either side: less than two hops
            assertEquals(clip.slice(inner), window.slice(inner))
            assertTrue(i == 0 || clip.take(64) != window.take(64))
        }
    }

    @Test
    fun `without centring a window equals the log-mel of its own samples`() {
        val spec = AST_16K.copy(paddedFrames = 100)
        val samples = sound(64000, 16000)
        val stream = Stream(spec, 16000, 30)
        stream.pushInChunks(samples, 2, 3000)
        assertEquals(11, stream.windows.size)
        for ((i, window) in stream.windows.withIndex()) {
            val start = stream.starts[i].toInt()
            val clip = LogMel(spec, triangles(spec)).compute(samples.copyOfRange(start, start + 16000))
            assertEquals(100 * 128, window.size)
            assertArrayEquals(clip, window, 0f)
        }
    }

    /** Also where a hop has more frames than a window, as of AST without overlap. */
    @Test
    fun `the last window is a part of the whole stream`() {
        val spec = AST_16K.copy(paddedFrames = 128)
        val samples = sound(50_000, 16000)
        for (hop in listOf(1, 60, 100)) {
            val stream = Stream(spec, 16000, hop)
            stream.pushInChunks(samples, 4, 3000)
            stream.front.finish(stream.listener)
            val last = (34_000 / 160 * 160).toLong()
            assertEquals((0L..last step 160L * hop).toList().let { if (it.last() < last) it + last else it }, stream.starts)
            for ((i, window) in stream.windows.withIndex()) {
                val clip = samples.copyOfRange(stream.starts[i].toInt(), stream.starts[i].toInt() + 16000)
                assertArrayEquals(LogMel(spec, triangles(spec)).compute(clip), window, 0f)
            }
        }
    }

    @Test
    fun `a stream shorter than a window is padded like a clip`() {
        for (spec in listOf(PANNS_32K, EFFICIENTAT_32K, AST_16K.copy(paddedFrames = 200))) {
            for (samples in listOf(1, 300, 600, spec.sampleRate, 2 * spec.sampleRate - 1)) {
                val stream = Stream(spec, 2 * spec.sampleRate, 100)
                val heard = sound(samples, spec.sampleRate)
                stream.pushInChunks(heard, 5, 4000)
                stream.front.finish(stream.listener)
                val length = if (spec.paddedFrames == null) 2 * spec.sampleRate else maxOf(samples, spec.leastSamples)
                val expected = LogMel(spec, triangles(spec)).compute(heard.copyOf(length))
                assertArrayEquals(expected, stream.windows.single(), 0f)
            }
        }
    }

    @Test
    fun `each frame is computed once`() {
        val stream = Stream(PANNS_32K, 10 * 32000, 100)
        stream.front.push(sound(20 * 32000 + 600, 32000), listener = stream.listener)
        assertEquals(11, stream.windows.size)
        assertEquals(2001L, stream.front.framesComputed)
    }

    @Test
    fun `a stream of one window gives the log-mel of the clip`() {
        for (spec in listOf(PANNS_32K, EFFICIENTAT_32K, AST_16K)) {
            val samples = sound(2 * spec.sampleRate, spec.sampleRate)
            val stream = Stream(spec, samples.size, 1)
            stream.pushInChunks(samples, 3, 777)
            stream.front.finish(stream.listener)
            assertEquals(1, stream.windows.size)
            assertArrayEquals(LogMel(spec, triangles(spec)).compute(samples), stream.windows[0], 0f)
        }
    }

    @Test
    fun `settings out of range are refused`() {
        assertRefused<AudioException>("expected at least 513") { Stream(PANNS_32K, 512, 1) }
        for (hop in listOf(0, -1, 102)) {
            assertRefused<AudioException>("expected 1 … 101") { Stream(PANNS_32K, 32000, hop) }
        }
        val stream = Stream(PANNS_32K, 32000, 100)
        assertRefused<AudioException>("within") { stream.front.push(FloatArray(10), 5, 6, stream.listener) }
    }
}
