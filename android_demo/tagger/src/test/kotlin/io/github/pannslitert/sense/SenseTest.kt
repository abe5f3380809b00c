package io.github.pannslitert.sense

import io.github.pannslitert.LabelException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.floatArray
import io.github.pannslitert.optional
import io.github.pannslitert.rows
import io.github.pannslitert.texts
import io.github.pannslitert.vectors
import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class SenseTest {
    private val audioSet = File("assets/audioset_labels.txt").readLines()

    /** The scores of the Python runtime. */
    @Test
    fun `the shared vectors`() {
        val cases = vectors("sense.json").rows("cases")
        assertTrue(cases.size > 15)
        for (case in cases) {
            val labels = case.optional("labels", ::texts) ?: audioSet
            val sense = sense(labels, case["options"].asJsonObject)
            val found = sense.scores(floatArray(case["probs"].asJsonArray), case.optional("level_dbfs") { it.asDouble })
            assertEquals(texts(case["names"]).ifEmpty { labels }, sense.labels)
            assertArrayEquals(case["name"].asString, floatArray(case["scores"].asJsonArray), found, 1e-5f)
        }
    }

    @Test
    fun `what Python refuses is refused`() {
        val cases = vectors("sense.json").rows("refused")
        assertTrue(cases.size > 8)
        for (case in cases) {
            assertRefused<LabelException>("") { sense(texts(case["labels"]), case["options"].asJsonObject) }
        }
    }

    @Test
    fun `messages name the nearest class`() {
        val ontology = Ontology(audioSet)
        val horn = "Vehicle horn, car horn, honking"
        for ((name, meant) in listOf("Dgo" to "Dog", "speach" to "Speech", "car horn" to horn)) {
            assertRefused<LabelException>("no class \"$name\"; did you mean \"$meant\"?") {
                ontology.select(listOf(name))
            }
        }
        assertRefused<LabelException>("expected a class name") { ontology.select(listOf("xqzw#")) }
        assertRefused<LabelException>("or \"Human sounds/\" for all") { ontology.select(listOf("Human sounds")) }
        assertRefused<LabelException>("no class within") { Ontology(listOf("Dog")).select(listOf("Vehicle/")) }
        assertRefused<LabelException>("did you mean \"Dog\"") { ontology.children("dog") }
        assertEquals(listOf("Bark", "Yip"), ontology.children("Dog").take(2))
    }

    @Test
    fun `wrong sizes and labels are refused`() {
        assertRefused<LabelException>("expected at least one") { Sense(listOf()) }
        assertRefused<LabelException>("\"a\" 2 times") { Sense(listOf("a", "b", "a")) }
        assertRefused<LabelException>("expected 1, one per class") { Sense(listOf("a")).scores(FloatArray(2)) }
        assertRefused<LabelException>("no groups") { Sense(listOf("a"), groups = mapOf()) }
        for (value in listOf(Double.NaN, Double.POSITIVE_INFINITY, -1.0)) {
            assertRefused<LabelException>("temperature") { Sense(listOf("a"), temperature = value) }
        }
        assertRefused<LabelException>("silenceDbfs") { Sense(listOf("a"), silenceDbfs = Double.NaN) }
    }

    @Test
    fun `the input is not changed`() {
        val probs = floatArrayOf(0.2f, 0.9f)
        Sense(listOf("Dog", "Bark"), temperature = 2.0, rollUp = true, deny = listOf("Bark")).scores(probs)
        assertArrayEquals(floatArrayOf(0.2f, 0.9f), probs, 0f)
    }
}
