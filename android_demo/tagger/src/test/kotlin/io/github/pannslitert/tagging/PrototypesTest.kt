package io.github.pannslitert.tagging

import io.github.pannslitert.PrototypeException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.bundle.Bundle
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

    /** The cosines and the classes of the Python runtime. */
    @Test
    fun `the shared vectors`() {
        assertEquals(listOf("first", "second", "one clip"), prototypes.labels)
        for (case in data.rows("cases")) {
            val embedding = floatArray(case["embedding"].asJsonArray)
            assertArrayEquals(floatArray(case["scores"].asJsonArray), prototypes.scores(embedding), 1e-5f)
            assertEquals(case.optional("nearest") { it.asString }, prototypes.nearest(embedding)?.first?.name)
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
        for (bad in listOf(0f, Float.NaN, Float.POSITIVE_INFINITY)) {
            assertRefused<PrototypeException>("zero or not finite") { prototypes.scores(FloatArray(6) { bad }) }
        }
        val none = """{"format_version": 1, "model": "m", "model_sha256": "0", "dim": 6, "classes": []}"""
        assertRefused<PrototypeException>("no class yet") { Prototypes.parse(none).scores(FloatArray(6) { 1f }) }
    }

    @Test
    fun `they belong to one model`() {
        val bundle = Bundle.open(File("assets/demo_bundle"))
        assertRefused<PrototypeException>("prototypes of m") { prototypes.requireModel(bundle) }
        val sha256 = bundle.manifest.files.getValue(bundle.manifest.file("model")).sha256
        val own = """{"format_version": 1, "model": "demo", "model_sha256": "$sha256", "dim": 96, "classes": []}"""
        Prototypes.parse(own).requireModel(bundle)
        assertRefused<PrototypeException>("enroll") { Prototypes.parse(own.replace("96", "95")).requireModel(bundle) }
    }
}
