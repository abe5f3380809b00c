package io.github.pannslitert.tagging

import io.github.pannslitert.LabelException
import io.github.pannslitert.SettingsException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.floatArray
import io.github.pannslitert.rows
import io.github.pannslitert.texts
import io.github.pannslitert.vectors
import java.io.File
import kotlin.io.path.createTempDirectory
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class TaggerSettingsTest {
    private val data = vectors("settings.json")
    private val labels = texts(data["labels"])

    /** The thresholds and the scores of the Python runtime. */
    @Test
    fun `the shared vectors`() {
        val cases = data.rows("cases")
        assertTrue(cases.size > 5)
        for (case in cases) {
            val settings = TaggerSettings.parse(case["file"].toString())
            val sense = settings.sense(labels)
            val wanted = case["thresholds"].asJsonObject
            assertEquals(wanted.keySet().toList(), sense.labels)
            for ((label, on) in sense.labels.zip(settings.thresholds(sense.labels).asList())) {
                val own = wanted[label].asJsonObject
                val found = settings.events.of(label)
                assertEquals(own["on"].asDouble, on, 0.0)
                assertEquals(own["on"].asDouble, found.on, 0.0)
                assertEquals(own["off"].asDouble, found.off!!, 0.0)
                assertEquals(own["min_duration"].asDouble, found.minDuration, 0.0)
                assertEquals(own["max_gap"].asDouble, found.maxGap, 0.0)
                assertEquals(own["cooldown"].asDouble, found.cooldown, 0.0)
            }
            val scores = sense.scores(floatArray(data["probs"].asJsonArray))
            assertArrayEquals(case["name"].asString, floatArray(case["scores"].asJsonArray), scores, 1e-6f)
        }
    }

    @Test
    fun `what Python refuses is refused`() {
        val cases = data.rows("refused")
        assertTrue(cases.size > 20)
        for (case in cases) assertRefused<SettingsException>("") { TaggerSettings.parse(case["file"].toString()) }
        for (case in data.rows("strangers")) {
            val settings = TaggerSettings.parse(case["file"].toString())
            assertRefused<LabelException>("no class") { settings.sense(labels) }
        }
    }

    @Test
    fun `files that cannot be read are refused`() {
        val folder = createTempDirectory("settings").toFile()
        try {
            val file = File(folder, "mine.json").also { it.writeText("\uFEFF{\"on\": 0.5}") }
            assertEquals(0.5, TaggerSettings.read(file).events.on, 0.0)
            assertRefused<SettingsException>("expected a file of settings") { TaggerSettings.read(File(folder, "no")) }
            assertRefused<SettingsException>("expected a file of settings") { TaggerSettings.read(folder) }
            for (text in listOf("", "[]", "{", "{\"on\": 0.5, \"on\": 0.5}", "{\"on\": NaN}")) {
                file.writeText(text)
                assertRefused<SettingsException>("mine.json: ") { TaggerSettings.read(file) }
            }
        } finally {
            folder.deleteRecursively()
        }
    }

    @Test
    fun `they belong to one model`() {
        val bundle = Bundle.open(File("assets/demo_bundle"))
        TaggerSettings.parse("{}").requireModel(bundle)
        TaggerSettings.parse("""{"model": "demo", "model_sha256": "${bundle.modelSha256}"}""").requireModel(bundle)
        val other = TaggerSettings.parse("""{"model": "m", "model_sha256": "${"0".repeat(64)}"}""")
        assertRefused<SettingsException>("settings of m (000000000000…)") { other.requireModel(bundle) }
    }
}
