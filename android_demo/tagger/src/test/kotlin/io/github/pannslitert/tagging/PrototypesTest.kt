package io.github.pannslitert.tagging

import io.github.pannslitert.PrototypeException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.audio.Recording
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.floatArray
import io.github.pannslitert.optional
import io.github.pannslitert.rows
import io.github.pannslitert.vectors
import java.io.File
import kotlin.io.path.createTempDirectory
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class PrototypesTest {
    private val data = vectors("prototypes.json")
    private val prototypes = Prototypes.parse(data["file"].toString())

    /** The scores and the classes of the Python runtime. */
    @Test
    fun `the shared vectors`() {
        assertEquals(listOf("first", "second", "one clip"), prototypes.labels)
        for (case in data.rows("cases")) {
            val embedding = floatArray(case["embedding"].asJsonArray)
            assertArrayEquals(floatArray(case["scores"].asJsonArray), prototypes.scores(embedding), 1e-5f)
            val cosines = case.optional("cosines") { floatArray(it.asJsonArray) } ?: continue
            for ((want, got) in cosines.toList() zip prototypes.cosines(embedding).toList()) {
                assertEquals(want.toDouble(), got, 1e-6)
            }
            assertEquals(case.optional("nearest") { it.asString }, prototypes.nearest(embedding)?.first?.name)
        }
    }

    /** The thresholds of events of the Python runtime. */
    @Test
    fun `events of enrolled classes have their own thresholds`() {
        val cases = data.rows("settings")
        assertTrue(cases.size > 5)
        for (case in cases) {
            val found = Prototypes.withEnrolled(eventSettings(case["settings"].asJsonObject), listOf("mine")).of("mine")
            val expected = case["of"].asJsonObject
            assertEquals(case.toString(), expected["on"].asDouble, found.on, 0.0)
            assertEquals(case.toString(), expected["off"].asDouble, found.off ?: -1.0, 0.0)
            assertEquals(case.toString(), expected["min_duration"].asDouble, found.minDuration, 0.0)
        }
    }

    @Test
    fun `changed files are refused`() {
        val cases = data.rows("refused")
        assertTrue(cases.size > 10)
        for (case in cases) assertRefused<PrototypeException>("") { Prototypes.parse(case["file"].toString()) }
    }

    @Test
    fun `files that cannot be read are refused`() {
        val folder = createTempDirectory("prototypes").toFile()
        try {
            val file = File(folder, "mine.json").also { it.writeText(data["file"].toString()) }
            assertEquals(3, Prototypes.read(file).classes.size)
            assertRefused<PrototypeException>("enroll the clips again") { Prototypes.read(File(folder, "none.json")) }
            assertRefused<PrototypeException>("enroll the clips again") { Prototypes.read(folder) }
            for (text in listOf("", "[]", "{", "\u0000", file.readText() + "{}")) {
                file.writeText(text)
                assertRefused<PrototypeException>("mine.json: ") { Prototypes.read(file) }
            }
            file.writeBytes(byteArrayOf(-1))
            assertRefused<PrototypeException>("not UTF-8") { Prototypes.read(file) }
        } finally {
            folder.deleteRecursively()
        }
    }

    @Test
    fun `embeddings that cannot be compared are refused`() {
        assertRefused<PrototypeException>("expected 6") { prototypes.scores(FloatArray(5) { 1f }) }
        for (bad in listOf(Float.NaN, Float.POSITIVE_INFINITY)) {
            assertRefused<PrototypeException>("zero or not finite") { prototypes.scores(FloatArray(6) { bad }) }
        }
        assertRefused<PrototypeException>("zero or not finite") { prototypes.cosines(FloatArray(6)) }
        val none = """{"format_version": 2, "model": "m", "model_sha256": "0", "dim": 6, "classes": [], $NO_BACKGROUND}"""
        assertRefused<PrototypeException>("no class yet") { Prototypes.parse(none).scores(FloatArray(6) { 1f }) }
    }

    @Test
    fun `they belong to one model`() {
        val bundle = Bundle.open(File("assets/demo_bundle"))
        assertRefused<PrototypeException>("prototypes of m") { prototypes.requireModel(bundle) }
        val sha256 = bundle.manifest.files.getValue(bundle.manifest.file("model")).sha256
        assertEquals(sha256, bundle.modelSha256)
        own(bundle, listOf()).requireModel(bundle)
        assertRefused<PrototypeException>("enroll") { own(bundle, listOf(), dim = 95).requireModel(bundle) }
        assertRefused<PrototypeException>("has a class \"Siren\"") { own(bundle, listOf("siren")).requireModel(bundle) }
    }

    /** Tags, streams and events have the enrolled classes behind those of the model. */
    @Test
    fun `a tagger with prototypes`() {
        val bundle = Bundle.open(File("assets/demo_bundle"))
        val classes = bundle.labels.size
        val mine = own(bundle, listOf("first", "other")) // the first and the second axis of the embeddings
        val tagger = Tagger(bundle, FirstAxis(), threshold = 0.5f, prototypes = mine)
        assertEquals(bundle.labels + listOf("first", "other"), tagger.labels)
        val samples = FloatArray(320000) { if (it % 2 == 0) 0.1f else -0.1f }
        val found = tagger.tag(samples)
        assertEquals(listOf(Tag(classes, "first", mine.scores(found.embedding)[0])), found.tags)
        assertArrayEquals(mine.scores(found.embedding), found.probs.copyOfRange(classes, classes + 2), 0f)
        val stream = tagger.stream(10.0)
        val events = EventStream(stream, EventSettings(on = 0.99))
        val parts = listOf(samples, samples, FloatArray(320000) { Float.NaN })
        val windows = parts.flatMap { stream.push(it) } + stream.finish()
        val heard = windows.flatMap(events::push) + events.finish()
        assertEquals(listOf("first"), heard.map { it.label })
        assertEquals(20.0, heard[0].end, 0.1)
        assertTrue(windows.last().probs.all { it == 0f } && windows.last().probs.size == classes + 2)
        assertEquals(listOf("first"), tagger.tagLong(Recording(samples, 32000)).tags.map { it.label })
        val joined = Prototypes.joined(floatArrayOf(1f, 2f, 3f, 4f), 2, floatArrayOf(5f))
        assertArrayEquals(floatArrayOf(1f, 2f, 5f, 3f, 4f, 5f), joined, 0f)
    }

    /** An engine that hears none of the model's classes, with an embedding along the first axis. */
    private class FirstAxis : Engine {
        override val backend = "test"
        override val fallback: String? = null

        override fun run(input: FloatArray) =
            mapOf("probs" to FloatArray(22), "embedding" to FloatArray(96) { if (it == 0) 2f else 0f })

        override fun close() = Unit
    }

    private fun own(bundle: Bundle, names: List<String>, dim: Int = 96): Prototypes {
        val classes = names.mapIndexed { k, name ->
            val mean = List(dim) { if (it == k) 1.0 else 0.0 }
            """{"name": "$name", "count": 1, "cosine": 1.0, "threshold": 0.6, "scale": 0.1, "mean": $mean, "sha256": []}"""
        }
        return Prototypes.parse(
            """{"format_version": 2, "model": "demo", "model_sha256": "${bundle.modelSha256}", "dim": $dim, """ +
                """"classes": $classes, $NO_BACKGROUND}""",
        )
    }

    private companion object {
        const val NO_BACKGROUND = """"background": {"sha256": [], "windows": 0, "vectors": ""}"""
    }
}
