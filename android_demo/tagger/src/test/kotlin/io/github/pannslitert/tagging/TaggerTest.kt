package io.github.pannslitert.tagging

import com.google.gson.JsonParser
import io.github.pannslitert.AudioException
import io.github.pannslitert.EngineException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.bundleCopy
import io.github.pannslitert.bundle.replaceFile
import io.github.pannslitert.bundle.takeSamples
import io.github.pannslitert.frontend.AST_16K
import io.github.pannslitert.frontend.LogMel
import io.github.pannslitert.frontend.PANNS_32K
import io.github.pannslitert.frontend.melBasis
import io.github.pannslitert.sound
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

/** Tests everything but the model, which runs in tests/android/test_kotlin.py: LiteRT does not exist for a plain JVM. */
class TaggerTest {
    /** An engine whose outputs depend on its input, so that a test can tell which input it got. */
    private class LevelEngine(val classes: Int = 22, val highest: Float = 1f) : Engine {
        override val backend = "levels"
        override val fallback = "no model on this machine"
        val inputs = mutableListOf<FloatArray>()

        override fun run(input: FloatArray): Map<String, FloatArray> {
            inputs += input.copyOf()
            val level = (input.sumOf { kotlin.math.abs(it.toDouble()) } / input.size).toFloat()
            return mapOf(
                "probs" to FloatArray(classes) { highest * (it + 1) / (classes + level) },
                "embedding" to FloatArray(96) { level },
            )
        }

        override fun close() = Unit
    }

    private val bundle = Bundle.open(bundleCopy())
    private val waveformBundle = Bundle.open(bundleCopy(::takeSamples))

    @Test
    fun `the engine gets the log-mel of the clip, and the result its backend and fallback`() {
        val engine = LevelEngine()
        val samples = sound(320000, 32000)
        val tagging = Tagger(bundle, engine, top = 3).tag(samples)
        assertArrayEquals(LogMel(PANNS_32K, bundle.melBasis).compute(samples), engine.inputs.single(), 0f)
        assertEquals(listOf(21, 20, 19), tagging.tags.map { it.index })
        assertEquals(bundle.labels[21], tagging.tags[0].label)
        assertEquals(tagging.probs[21], tagging.tags[0].score, 0f)
        assertEquals("levels", tagging.backend)
        assertEquals("no model on this machine", tagging.fallback)
        assertEquals("demo", tagging.model)
        assertEquals(10.0, tagging.seconds, 0.0)
        assertNull(tagging.framewise)
        assertTrue(tagging.frontEndMs > 0 && tagging.modelMs > 0)
    }

    @Test
    fun `a short recording is padded with silence, a long one is cut`() {
        val engine = LevelEngine()
        val tagger = Tagger(bundle, engine)
        val long = sound(400000, 32000)
        assertEquals(10.0, tagger.tag(long).seconds, 0.0)
        val short = tagger.tag(long.copyOf(40000)) // nothing of the long recording may be left in it
        assertEquals(1.25, short.seconds, 0.0)
        val logMel = LogMel(PANNS_32K, bundle.melBasis)
        assertArrayEquals(logMel.compute(long.copyOf(320000)), engine.inputs[0], 0f)
        assertArrayEquals(logMel.compute(long.copyOf(40000).copyOf(320000)), engine.inputs[1], 0f)
        assertEquals(320000, tagger.tag(floatArrayOf(0.5f)).let { bundle.manifest.clipSamples })
    }

    @Test
    fun `a waveform graph gets the samples`() {
        val engine = LevelEngine()
        val samples = sound(100000, 32000)
        val tagging = Tagger(waveformBundle, engine).tag(samples)
        assertArrayEquals(samples.copyOf(320000), engine.inputs.single(), 0f)
        assertEquals(0.0, tagging.frontEndMs, 0.0)
    }

    @Test
    fun `with padded frames a short recording is not padded with silence`() {
        val folder = bundleCopy { manifest ->
            manifest.add("front_end", JsonParser.parseString(AST_JSON))
            manifest["inputs"].asJsonArray[0].asJsonObject.add("shape", JsonParser.parseString("[1, 1, 1024, 128]"))
        }
        val basis = melBasis(AST_16K)
        val bytes = ByteBuffer.allocate(4 * basis.size).order(ByteOrder.LITTLE_ENDIAN)
        replaceFile(folder, "mel_basis.bin", bytes.also { it.asFloatBuffer().put(basis) }.array())
        val engine = LevelEngine()
        val tagger = Tagger(Bundle.open(folder), engine)
        val logMel = LogMel(AST_16K, basis)
        for (samples in listOf(16000, 160000, 200)) {
            tagger.tag(sound(samples, 16000))
            val heard = sound(samples, 16000).copyOf(maxOf(samples, 400))
            assertArrayEquals(logMel.compute(heard), engine.inputs.last(), 0f)
        }
    }

    @Test
    fun `tags below the threshold are left out`() {
        val all = Tagger(bundle, LevelEngine(), top = 22).tag(sound(32000, 32000))
        val threshold = all.tags[4].score
        val some = Tagger(bundle, LevelEngine(), top = 22, threshold = threshold).tag(sound(32000, 32000))
        assertEquals(all.tags.take(5), some.tags)
    }

    @Test
    fun `a stream gives one window per hop, of log-mel or of samples`() {
        val samples = sound(32000 * 13 + 700, 32000)
        for (bundle in listOf(bundle, waveformBundle)) {
            val engine = LevelEngine()
            val stream = Tagger(bundle, engine).stream(hopSeconds = 1.0)
            val results = (0 until samples.size step 1600).flatMap { from ->
                stream.push(samples, from, minOf(1600, samples.size - from))
            } + stream.finish()
            assertEquals(listOf(0.0, 1.0, 2.0, 3.0), results.map { it.startSeconds })
            assertTrue(results.all { it.seconds == 10.0 && it.backend == "levels" && it.frontEndMs >= 0.0 })
            if (bundle === waveformBundle) {
                assertArrayEquals(samples.copyOfRange(64000, 384000), engine.inputs[2], 0f)
            } else {
                val whole = LogMel(PANNS_32K, bundle.melBasis).compute(samples)
                assertArrayEquals(whole.copyOfRange(200 * 64, 1201 * 64), engine.inputs[2], 0f)
            }
        }
    }

    /** As in Python, which has the same cases in tests/test_windows.py. */
    @Test
    fun `bad samples cost the windows that hold them`() {
        val samples = sound(32000 * 30, 32000)
        for (bundle in listOf(bundle, waveformBundle)) {
            for (bad in listOf(Float.NaN, Float.NEGATIVE_INFINITY, 1e30f, -3f)) {
                for (count in listOf(1, 40_000)) {
                    val broken = samples.copyOf().also { it.fill(bad, 640_000, 640_000 + count) }
                    val clean = samples.copyOf().also { it.fill(0f, 640_000, 640_000 + count) }
                    val results = stream(bundle, LevelEngine(), broken, chunk = 7777)
                    val expected = stream(bundle, LevelEngine(), clean, chunk = 7777)
                    assertEquals(expected.map { it.startSeconds }, results.map { it.startSeconds })
                    for ((result, other) in results zip expected) {
                        val marked = result.startSeconds in listOf(15.0, 20.0)
                        val reason = "NaN, Inf or samples far beyond full scale at 20.000 s"
                        assertEquals(if (marked) reason else null, result.unusable)
                        assertArrayEquals(if (marked) FloatArray(22) else other.probs, result.probs, 0f)
                        assertEquals(marked, result.tags.isEmpty())
                    }
                }
            }
        }
    }

    @Test
    fun `a stream goes on after an exception of the engine`() {
        val samples = sound(32000 * 16, 32000)
        val expected = stream(bundle, LevelEngine(), samples, chunk = 1600)
        val working = LevelEngine()
        var runs = 0
        val failing = object : Engine by working {
            override fun run(input: FloatArray): Map<String, FloatArray> {
                if (runs++ == 2) throw EngineException("no engine")
                return working.run(input)
            }
        }
        val stream = Tagger(bundle, failing).stream(hopSeconds = 5.0)
        val pushed = { stream.push(samples, 0, 32000 * 10) + stream.push(samples, 32000 * 10, 32000 * 6) }
        val first = pushed()
        assertRefused<EngineException>("no engine") { stream.finish() } // the last window, shifted back to 6 s
        assertEquals(expected.take(2).map { it.startSeconds }, first.map { it.startSeconds })
        assertEquals(listOf(0.0, 5.0, 6.0), expected.map { it.startSeconds })
        assertEquals(listOf<Tagging>(), stream.finish())
    }

    @Test
    fun `results before an exception come with the next call`() {
        val working = LevelEngine()
        var runs = 0
        val failing = object : Engine by working {
            override fun run(input: FloatArray): Map<String, FloatArray> {
                if (runs++ == 1) throw EngineException("no engine")
                return working.run(input)
            }
        }
        val samples = sound(32000 * 30, 32000)
        val stream = Tagger(bundle, failing).stream(hopSeconds = 10.0)
        assertRefused<EngineException>("no engine") { stream.push(samples) }
        // The frames at the end of the last window were not complete before the end of the stream.
        assertEquals(listOf(0.0, 20.0), stream.finish().map { it.startSeconds })
        assertEquals(30.0, stream.seconds, 0.0)
    }

    @Test
    fun `a short stream gives the result of the clip`() {
        val samples = sound(32000 * 7, 32000)
        for (bundle in listOf(bundle, waveformBundle)) {
            val clip = Tagger(bundle, LevelEngine()).tag(samples)
            val tagging = stream(bundle, LevelEngine(), samples, chunk = 5000).single()
            assertArrayEquals(clip.probs, tagging.probs, 0f)
            assertEquals(listOf(7.0, 3.0), listOf(tagging.seconds, tagging.paddingSeconds))
            assertEquals(listOf(7.0, 3.0), listOf(clip.seconds, clip.paddingSeconds))
        }
    }

    private fun stream(bundle: Bundle, engine: Engine, samples: FloatArray, chunk: Int): List<Tagging> {
        val stream = Tagger(bundle, engine).stream(hopSeconds = 5.0)
        return (samples.indices step chunk).flatMap { stream.push(samples, it, minOf(chunk, samples.size - it)) } +
            stream.finish()
    }

    @Test
    fun `an engine whose outputs do not match the manifest is refused`() {
        assertRefused<EngineException>("expected 22") {
            Tagger(bundle, LevelEngine(classes = 21)).tag(sound(32000, 32000))
        }
        for (score in listOf(Float.NaN, 1e6f, -1f)) {
            assertRefused<EngineException>("outside 0 … 1") {
                Tagger(bundle, LevelEngine(highest = score)).tag(sound(32000, 32000))
            }
        }
        val mute = object : Engine by LevelEngine() {
            override fun run(input: FloatArray) = mapOf("embedding" to FloatArray(96))
        }
        assertRefused<EngineException>("no output probs") { Tagger(bundle, mute).tag(sound(32000, 32000)) }
    }

    @Test
    fun `audio and settings out of range are refused`() {
        for (bundle in listOf(bundle, waveformBundle)) {
            val tagger = Tagger(bundle, LevelEngine())
            assertRefused<AudioException>("at least one") { tagger.tag(FloatArray(0)) }
            assertRefused<AudioException>("expected samples in [-1, 1]") { tagger.tag(FloatArray(32000) { Float.NaN }) }
            assertRefused<AudioException>("a hop of") { tagger.stream(0.0) }
            assertRefused<AudioException>("a hop of") { tagger.stream(10.5) }
            assertRefused<AudioException>("a hop of") { tagger.stream(Double.NaN) }
        }
        assertRefused<EngineException>("top") { Tagger(bundle, LevelEngine(), top = 0) }
        assertRefused<EngineException>("threshold") { Tagger(bundle, LevelEngine(), threshold = 1.5f) }
    }

    private companion object {
        const val AST_JSON = """
            {"sample_rate": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 128, "fmin": 20,
             "fmax": 8000, "window": "hann_symmetric", "center": false, "pad_mode": "reflect", "power": 2,
             "mel_scale": "kaldi", "mel_norm": null, "log": "ln", "amin": 1.1920928955078125e-7, "log_offset": null,
             "pre_emphasis": 0.97, "affine": [4.2677393, 9.1379948], "remove_dc": true, "padded_frames": 1024}"""
    }
}
