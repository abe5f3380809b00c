package io.github.pannslitert.tagging

import com.google.gson.JsonObject
import io.github.pannslitert.AudioException
import io.github.pannslitert.EngineException
import io.github.pannslitert.LabelException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.audio.MonoResampler
import io.github.pannslitert.audio.Recording
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.bundleCopy
import io.github.pannslitert.bundle.takeSamples
import io.github.pannslitert.floatArray
import io.github.pannslitert.optional
import io.github.pannslitert.rows
import io.github.pannslitert.sense.Sense
import io.github.pannslitert.sense.sense
import io.github.pannslitert.texts
import io.github.pannslitert.vectors
import java.io.File
import kotlin.math.PI
import kotlin.math.pow
import kotlin.math.round
import kotlin.math.sin
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class LongTaggingTest {
    /** The engine of tests/vectors/make_long.py: it counts its runs. */
    private class Numbers : Engine {
        override val backend = "numbers"
        override val fallback: String? = null
        private var runs = 0

        override fun run(input: FloatArray): Map<String, FloatArray> {
            val n = runs++
            return mapOf(
                "probs" to FloatArray(22) { ((37 * n + 13 * it) % 101 / 100.0).toFloat() },
                "embedding" to FloatArray(96) { ((5 * n + 3 * it) % 17 / 17.0 - 0.5).toFloat() },
            )
        }

        override fun close() = Unit
    }

    private val bundle = Bundle.open(File("assets/demo_bundle"))
    private val waveformBundle = Bundle.open(bundleCopy(::takeSamples)) // without the front end, which takes long
    private val cases = vectors("long.json").rows("cases")

    private companion object {
        val WITH_FRONT_END = setOf("shorter than a window", "overlap", "48 kHz, bad samples")
    }

    private fun recording(case: JsonObject): Recording {
        val (rate, channels) = case["rate"].asInt to case["channels"].asInt
        val amplitudes = floatArray(case["amplitudes"].asJsonArray)
        val samples = FloatArray(round(case["seconds"].asDouble * rate).toInt() * channels) { at ->
            val (n, channel) = at / channels to at % channels
            val tone = amplitudes[n / rate % amplitudes.size] * sin(2.0 * PI * 440.0 * n / rate) + 0.1
            (tone / 2.0.pow(channel)).toFloat()
        }
        for (span in case["bad"].asJsonArray.map { it.asJsonArray }) {
            val (first, last) = List(2) { round(span[it].asDouble * rate).toInt() }
            for (n in first..last) samples[n * channels + channels - 1] = Float.NaN
        }
        return Recording(samples, rate, channels)
    }

    /** The windows, their levels, and the results of the Python runtime. */
    @Test
    fun `the shared vectors`() {
        assertTrue(cases.size >= 12)
        for (case in cases) {
            val name = case["name"].asString
            val (hop, sense) = case["hop"].asDouble to sense(bundle.labels, case["sense"].asJsonObject)
            val bundle = if (name in WITH_FRONT_END) bundle else waveformBundle
            val stream = Tagger(bundle, Numbers()).stream(hop)
            val windows = recording(case).mono(32000).flatMap { stream.push(it) }.toList() + stream.finish()
            assertEquals(name, case.rows("windows").map { it["index"].asInt }, windows.map { it.index })
            for ((want, got) in case.rows("windows") zip windows) {
                assertEquals(name, want["start"].asDouble, got.startSeconds, 1e-4)
                assertEquals(name, want["seconds"].asDouble, got.seconds, 1e-4)
                assertEquals(name, want["padding"].asDouble, got.paddingSeconds, 1e-4)
                assertEquals(name, want.optional("unusable") { true }, got.unusable?.let { true })
                val level = want.optional("level_dbfs") { it.asDouble } ?: Double.NEGATIVE_INFINITY
                assertEquals(name, level, got.levelDbfs, 1e-3)
            }
            val aggregate = Aggregate.valueOf(case["aggregate"].asString.uppercase())
            val whole = Tagger(bundle, Numbers(), top = 3).tagLong(recording(case), hop, aggregate, sense)
            val want = case["result"].asJsonObject
            assertEquals(name, texts(want["tags"]), whole.tags.map { it.label })
            assertArrayEquals(name, floatArray(want["scores"].asJsonArray), whole.scores, 1e-5f)
            assertArrayEquals(name, floatArray(want["embedding"].asJsonArray), whole.embedding, 1e-5f)
            assertEquals(name, want["seconds"].asDouble, whole.seconds, 1e-4)
            assertEquals(name, want["padding"].asDouble, whole.paddingSeconds, 1e-4)
            assertEquals(name, want["windows"].asInt, whole.windows)
            assertEquals(name, want["skipped"].asInt, whole.windowsSkipped)
            assertEquals(name, whole.windowsSkipped > 0, whole.skipped != null)
        }
    }

    /** The events of the Python runtime, with its default hop and thresholds. */
    @Test
    fun `the events of the shared vectors`() {
        for (case in cases) {
            val name = case["name"].asString
            val sense = sense(bundle.labels, case["sense"].asJsonObject)
            val found = Tagger(waveformBundle, Numbers()).findEvents(recording(case), sense = sense)
            val skipped = case["result"].asJsonObject["skipped"].asInt > 0
            assertEquals(name, skipped, found.windowsSkipped > 0 && found.skipped != null)
            val expected = case["events"].asJsonArray.map { it.asJsonArray }
            assertEquals(name, expected.map { it[0].asString }, found.events.map { it.label })
            for ((want, got) in expected zip found.events) {
                assertEquals(name, want[1].asDouble, got.start, 1e-4)
                assertEquals(name, want[2].asDouble, got.end, 1e-4)
                assertEquals(name, want[3].asDouble, got.score.toDouble(), 1e-5)
            }
        }
    }

    @Test
    fun `shorts and floats are the same recording`() {
        val shorts = ShortArray(2 * 44100 * 3) { (8000 * sin(it / 40.0)).toInt().toShort() }
        val floats = FloatArray(shorts.size) { shorts[it] / 32768f }
        val results = listOf(Recording(shorts, 44100, 2), Recording(floats, 44100, 2)).map { recording ->
            val parts = recording.mono(32000).toList()
            FloatArray(parts.sumOf { it.size }).also { all ->
                parts.fold(0) { at, part -> at + part.size.also { part.copyInto(all, at) } }
            }
        }
        assertEquals(96000, results[0].size)
        assertArrayEquals(results[0], results[1], 0f)
        val resampler = MonoResampler(44100, 32000, 2)
        val parts = (shorts.indices step 1000).map { from ->
            resampler.push(shorts.copyOfRange(from, minOf(from + 1000, shorts.size)))
        }
        assertArrayEquals(results[0], (parts + resampler.finish()).flatMap { it.asList() }.toFloatArray(), 0f)
    }

    @Test
    fun `a clip of another rate is the start of the recording`() {
        val tagger = Tagger(bundle, Numbers())
        val tagging = tagger.tag(Recording(FloatArray(48000 * 12) { 0.1f }, 48000))
        assertEquals(listOf(10.0, 0.0), listOf(tagging.seconds, tagging.paddingSeconds))
        assertEquals(3.0, tagger.tag(Recording(ShortArray(44100 * 6), 44100, 2)).seconds, 0.0)
        assertRefused<AudioException>("at least one") { tagger.tag(Recording(ShortArray(0), 44100)) }
        assertRefused<AudioException>("NaN or far beyond") { tagger.tag(Recording(FloatArray(48000) { 1000f }, 48000)) }
    }

    @Test
    fun `bad samples stay where they are for any chunks`() {
        val samples = FloatArray(48000) { 0.1f }
        samples[20_000] = Float.POSITIVE_INFINITY
        samples[30_000] = -3f
        for (chunk in listOf(1, 7, 4800, 48000)) {
            val resampler = MonoResampler(48000, 32000)
            val parts = (samples.indices step chunk).map { from ->
                resampler.push(samples.copyOfRange(from, minOf(from + chunk, samples.size)))
            }
            val found = (parts + resampler.finish()).flatMap { it.asList() }
            assertEquals(32000, found.size)
            assertEquals(listOf(13333, 20000), found.indices.filter { found[it].isNaN() })
            assertTrue(found.all { it.isNaN() || it in 0f..0.2f })
        }
    }

    @Test
    fun `results are readable`() {
        val recording = Recording(FloatArray(32000 * 23) { 0.1f * sin(it / 40f) }, 32000)
        val tagger = Tagger(bundle, Numbers(), top = 4)
        assertEquals(
            "demo, numbers, 0.0 … 10.0 s: Tick-tock 0.94; Telephone dialing, DTMF 0.91; Foghorn 0.81; …",
            tagger.tag(recording).toString(),
        )
        assertTrue(tagger.tagLong(recording).toString().startsWith("demo, numbers, 23.0 s, 3 windows: "))
        val bad = tagger.stream(10.0).push(FloatArray(32000 * 11) { Float.NaN }).single().toString()
        assertEquals("demo, numbers, 0.0 … 10.0 s: NaN, Inf or samples far beyond full scale at 0.000 s", bad)
        val nothing = Tagger(bundle, Numbers(), threshold = 1f).tag(recording).toString()
        assertEquals("demo, numbers, 0.0 … 10.0 s: no tags", nothing)
    }

    @Test
    fun `recordings and settings that cannot be used are refused`() {
        val tagger = Tagger(bundle, Numbers())
        val second = FloatArray(32000)
        assertRefused<AudioException>("at least one") { tagger.tagLong(Recording(FloatArray(0), 32000)) }
        assertRefused<AudioException>("at least one") { tagger.findEvents(Recording(FloatArray(0), 32000)) }
        assertRefused<AudioException>("usable samples") { tagger.tagLong(Recording(FloatArray(9) { 9f }, 32000)) }
        assertRefused<AudioException>("usable samples") { tagger.findEvents(Recording(FloatArray(9) { 9f }, 32000)) }
        assertRefused<AudioException>("sample rate 0") { tagger.tagLong(Recording(second, 0)) }
        for (channels in listOf(0, -1, 65)) {
            assertRefused<AudioException>("$channels channels") { Recording(second, 32000, channels) }
        }
        assertRefused<AudioException>("as many samples") { Recording(second, 32000, 3) }
        assertRefused<AudioException>("as many samples") {
            tagger.tagLong(Recording(32000, 2, sequenceOf(FloatArray(2), FloatArray(3))))
        }
        for (hop in listOf(0.0, -1.0, 11.0, Double.NaN)) {
            assertRefused<AudioException>("a hop of") { tagger.tagLong(Recording(second, 32000), hopSeconds = hop) }
        }
        assertRefused<LabelException>("expected 1") {
            tagger.tagLong(Recording(second, 32000), sense = Sense(listOf("Dog")))
        }
        val broken = object : Engine by Numbers() {
            override fun run(input: FloatArray): Map<String, FloatArray> = throw EngineException("no engine")
        }
        assertRefused<EngineException>("no engine") { Tagger(bundle, broken).tagLong(Recording(second, 32000)) }
        assertNull(tagger.tagLong(Recording(second, 32000)).skipped)
    }
}
