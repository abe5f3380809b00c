package io.github.pannslitert.bundle

import com.google.gson.JsonArray
import com.google.gson.JsonNull
import com.google.gson.JsonObject
import io.github.pannslitert.BundleException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.frontend.PANNS_32K
import io.github.pannslitert.measure.SelfTest
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class BundleTest {
    @Test
    fun `the demo bundle opens`() {
        val bundle = Bundle.open(bundleCopy())
        assertEquals(PANNS_32K, bundle.manifest.frontEnd)
        assertEquals(320000, bundle.manifest.clipSamples)
        assertEquals(22, bundle.labels.size)
        assertEquals(64 * 513, bundle.melBasis.size)
        assertEquals(listOf("probs", "embedding"), bundle.manifest.outputs.map { it.name })
        assertTrue(bundle.manifest.parity.all { it.passed })
        assertTrue(bundle.manifest.file("model").endsWith(".tflite"))
        assertEquals("Apache-2.0", bundle.manifest.source.licence)
    }

    @Test
    fun `every field is required and no other is allowed`() {
        val untouched = setOf("versions", "files", "threshold") // objects with arbitrary field names
        val paths = mutableListOf<List<String>>()
        fun collect(value: JsonObject, path: List<String>) {
            for (name in value.keySet()) {
                paths += path + name
                val child = value[name]
                if (child is JsonObject && name !in untouched) collect(child, path + name)
            }
        }
        val folder = bundleCopy { collect(it, listOf()) }
        val text = File(folder, "manifest.json").readText()
        assertTrue(paths.size > 40)
        for (path in paths) {
            for (change in listOf<(JsonObject, String) -> Unit>(
                { parent, name -> parent.remove(name) },
                { parent, _ -> parent.addProperty("surprise", 1) },
                { parent, name -> parent.add(name, JsonArray().apply { add(JsonNull.INSTANCE) }) },
            )) {
                File(folder, "manifest.json").writeText(text)
                editManifest(folder) { manifest ->
                    change(path.dropLast(1).fold(manifest) { parent, name -> parent[name].asJsonObject }, path.last())
                }
                assertRefused<BundleException>("") { Bundle.open(folder) }
            }
        }
    }

    @Test
    fun `a manifest that contradicts itself is refused`() {
        fun JsonObject.first(name: String) = this[name].asJsonArray[0].asJsonObject
        val changes = mapOf<String, (JsonObject) -> Unit>(
            "this version reads 2 and 3" to { it.addProperty("format_version", 1) },
            "graph mel" to { it.addProperty("graph", "mel") },
            "expected host with logmel alone" to { it.addProperty("log_mel", "graph") },
            "clip_seconds -1" to { it.addProperty("clip_seconds", -1) },
            "inputs" to { it.addProperty("clip_seconds", 5) },
            "precision int3" to { it.addProperty("precision", "int3") },
            "no proof of every stage; expected front_end, network, fp32, int8" to { it.addProperty("precision", "int8") },
            "expected it with integer weights" to { it.add("quantization", quantization()) },
            "no proof of every stage" to { it.add("parity", JsonArray()) },
            "no proof of front_end/" to { it.first("parity").addProperty("passed", false) },
            "expected probs, embedding" to { it.first("outputs").addProperty("name", "scores") },
            "expected float32" to { it.first("outputs").addProperty("dtype", "float16") },
            "roles" to { it["files"].asJsonObject["README.md"].asJsonObject.addProperty("role", "model") },
            "selftest and selftest_samples or neither" to { it["files"].asJsonObject.remove("selftest.pcm") },
            "[labels, mel_basis, model, model_card, selftest_samples]" to {
                it["files"].asJsonObject.remove("selftest.json")
            },
            "selftest, selftest]" to {
                it["files"].asJsonObject["selftest.pcm"].asJsonObject.addProperty("role", "selftest")
            },
            "expected a selftest of 1 … 4194304 bytes" to {
                it["files"].asJsonObject["selftest.json"].asJsonObject.addProperty("bytes", 4194305)
            },
            "expected a selftest_samples of 1 … 4194304 bytes" to {
                it["files"].asJsonObject["selftest.pcm"].asJsonObject.addProperty("bytes", 0)
            },
            "plain name" to { it["files"].asJsonObject.apply { add("../README.md", remove("README.md")) } },
            "expected a mel_basis of 1" to {
                it["files"].asJsonObject["mel_basis.bin"].asJsonObject.addProperty("bytes", 100_000_000_000L)
            },
            "is not the mel basis" to { it["front_end"].asJsonObject.addProperty("fmax", 13000) },
            "manifest.front_end: unknown fmid" to { it["front_end"].asJsonObject.addProperty("fmid", 1) },
            "hop_length = 0" to { it["front_end"].asJsonObject.addProperty("hop_length", 0) },
            "another .tflite" to { it.add("gpu", gpuRecord(passed = false)) },
            "its figures say otherwise" to { it.add("gpu", gpuRecord(passed = true)) },
            "an NPU's result is of another .tflite" to { it.add("npu", npuRecords(passed = false)) },
            "npu SM8650: resident, but its figures" to { it.add("npu", npuRecords(passed = true)) },
            "npu[0]: missing taken" to { it.add("npu", npuRecords(passed = false, without = "taken")) },
        )
        for ((message, change) in changes) assertRefused<BundleException>(message) { Bundle.open(bundleCopy(change)) }
    }

    @Test
    fun `an adopted bundle is read without proof and embedding`() {
        fun adopted(stage: String = "engine"): (JsonObject) -> Unit = { manifest ->
            manifest.addProperty("format_version", 3)
            manifest["outputs"].asJsonArray.remove(1)
            val check = manifest["parity"].asJsonArray.first {
                it.asJsonObject["stage"].asString == "fp16" && it.asJsonObject["output"].asString == "probs"
            }
            check.asJsonObject.addProperty("stage", stage)
            manifest.add("parity", JsonArray().apply { add(check) })
        }
        val bundle = Bundle.open(bundleCopy(adopted()))
        assertFalse(bundle.manifest.proven)
        assertEquals(0, bundle.manifest.embeddingSize)
        assertEquals("engine", bundle.manifest.probsCheck.stage)
        assertTrue(Bundle.open(File("assets/demo_bundle")).manifest.proven)
        assertRefused<BundleException>("no check of probs at fp16 or engine") {
            Bundle.open(bundleCopy(adopted("network")))
        }
        assertRefused<BundleException>("in format 3; expected none") {
            Bundle.open(bundleCopy { adopted()(it); it.add("quantization", quantization()) })
        }
    }

    @Test
    fun `a bundle of an earlier version has no self-test`() {
        val folder = bundleCopy { manifest ->
            for (name in listOf("selftest.json", "selftest.pcm")) manifest["files"].asJsonObject.remove(name)
        }
        for (name in listOf("selftest.json", "selftest.pcm")) assertTrue(File(folder, name).delete())
        val bundle = Bundle.open(folder)
        assertFalse(bundle.manifest.files.values.any { it.role.startsWith("selftest") })
        assertRefused<BundleException>("has no self-test") { SelfTest.open(bundle) }
    }

    @Test
    fun `a file compiled for an NPU is checked and never taken for the model`() {
        val portable = "demo_synthetic_fp16.tflite"
        val folder = bundleCopy { manifest ->
            val files = manifest["files"].asJsonObject
            val model = files.remove(portable).asJsonObject
            for (soc in listOf("sm8550", "sm8650")) { // before the model in the manifest, and with its hash
                files.add("demo_synthetic_fp16_$soc.tflite", model.deepCopy().apply { addProperty("role", "npu_model") })
            }
            files.add(portable, model)
            manifest.add("npu", npuResults(manifest))
        }
        val compiled = listOf("sm8550", "sm8650").map { File(folder, "demo_synthetic_fp16_$it.tflite") }
        for (file in compiled) File(folder, portable).copyTo(file)
        val manifest = Bundle.open(folder).manifest
        assertEquals(portable, manifest.file("model"))
        assertEquals("demo_synthetic_fp16_sm8650.tflite", manifest.npuFile("SM8650"))
        for (other in listOf("SM8750", "8650", "", "fp16")) assertNull(manifest.npuFile(other))
        for ((change, part) in unproven) {
            val edited = bundleCopy { json ->
                val files = json["files"].asJsonObject
                val model = files[portable].asJsonObject.deepCopy().apply { addProperty("role", "npu_model") }
                files.add("demo_synthetic_fp16_sm8650.tflite", model)
                json.add("npu", npuResults(json).also { change(it[1].asJsonObject) })
            }
            assertRefused<BundleException>(part) { Bundle.open(edited) }
        }
        compiled[0].writeBytes(compiled[0].readBytes().also { it[7] = (it[7] + 1).toByte() })
        assertRefused<BundleException>("demo_synthetic_fp16_sm8550.tflite was altered") { Bundle.open(folder) }
    }

    @Test
    fun `a quantized bundle lists the layers with a finer type`() {
        fun asInt8(manifest: JsonObject) {
            manifest.addProperty("precision", "int8")
            manifest.add("quantization", quantization())
            for (check in manifest["parity"].asJsonArray.map { it.asJsonObject }) {
                if (check["stage"].asString == "fp16") check.addProperty("stage", "int8")
            }
        }
        val found = Bundle.open(bundleCopy(::asInt8)).manifest.quantization
        val layer = KeptLayer(25, "FULLY_CONNECTED", "fc_audioset", weights = 2816, precision = "fp16", error = 0.01)
        assertEquals(Quantization(listOf(layer), calibrationClips = 0), found)
        fun JsonObject.quantization() = this["quantization"].asJsonObject
        fun JsonObject.layer() = quantization()["kept"].asJsonArray[0].asJsonObject
        val changes = mapOf<String, (JsonObject) -> Unit>(
            "expected it with integer weights" to { it.add("quantization", JsonNull.INSTANCE) },
            "calibration_clips 3 with precision int8" to { it.quantization().addProperty("calibration_clips", 3) },
            "missing error" to { it.layer().remove("error") },
            "unknown sign" to { it.layer().addProperty("sign", 1) },
            "expected figures >= 0" to { it.layer().addProperty("error", -1) },
            "one of int8, fp16, fp32" to { it.layer().addProperty("precision", "int2") },
        )
        for ((message, change) in changes) {
            assertRefused<BundleException>(message) {
                Bundle.open(
                    bundleCopy {
                        asInt8(it)
                        change(it)
                    },
                )
            }
        }
    }

    private fun quantization() = JsonObject().apply {
        val layer = JsonObject().apply {
            addProperty("operator", 25)
            addProperty("op", "FULLY_CONNECTED")
            addProperty("name", "fc_audioset")
            addProperty("weights", 2816)
            addProperty("precision", "fp16")
            addProperty("error", 0.01)
        }
        add("kept", JsonArray().apply { add(layer) })
        addProperty("calibration_clips", 0)
    }

    @Test
    fun `text that is not JSON is refused`() {
        val text = File("assets/demo_bundle/manifest.json").readText()
        val noNumber = text.replaceFirst(": 2,", ": NaN,")
        val deep = text.replaceFirst(": 2,", ": ${"[".repeat(100_000)},")
        val deepObjects = text.replaceFirst(": 2,", ": ${"{\"a\":".repeat(100_000)},")
        val digits = text.replaceFirst(": 2,", ": ${"1".repeat(5000)},")
        val infinite = text.replaceFirst(": 10.0,", ": 1e999,")
        val twice = text.replaceFirst("{", "{\"format_version\": 2,")
        val nul = text.replaceFirst("\"demo\"", "\"demo\\u0000\"")
        val surrogate = text.replaceFirst("\"demo\"", "\"demo\\ud800\"")
        val texts = listOf(
            "", "{", "{a: 1}", "$text {}", noNumber, "// note\n$text", "[]", "null",
            deep, deepObjects, digits, infinite, twice, nul, surrogate,
        )
        for (bad in texts) {
            assertNotEquals(text, bad)
            val folder = bundleCopy().also { File(it, "manifest.json").writeText(bad) }
            assertRefused<BundleException>("manifest: ") { Bundle.open(folder) }
        }
    }

    @Test
    fun `a byte order mark is accepted, other encodings are not`() {
        val text = File("assets/demo_bundle/manifest.json").readText()
        val marked = bundleCopy().also { File(it, "manifest.json").writeText("\uFEFF$text") }
        assertEquals(22, Bundle.open(marked).labels.size)
        for (bytes in listOf(text.toByteArray(Charsets.UTF_16), byteArrayOf(-1, -2), ByteArray(5 shl 20) { 32 })) {
            val folder = bundleCopy().also { File(it, "manifest.json").writeBytes(bytes) }
            assertRefused<BundleException>("manifest.json") { Bundle.open(folder) }
        }
    }

    @Test
    fun `the model card may be edited or removed`() {
        for (edit in listOf<(File) -> Unit>({ it.delete() }, { it.writeText("---\nlicense: mit\n---\n") })) {
            val folder = bundleCopy().also { edit(File(it, "README.md")) }
            assertEquals(22, Bundle.open(folder).labels.size)
        }
    }

    @Test
    fun `class names that a screen or a table cannot show are refused`() {
        val names = File("assets/demo_bundle/demo_labels.txt").readLines()
        for (bad in listOf("a\tb", "a\u202eb", "a\u0000", "", " ", "a\rb", "a\u2028b", names[1])) {
            val labels = (listOf(bad) + names.drop(1)).joinToString("\n", postfix = "\n")
            val folder = bundleCopy().also { replaceFile(it, "demo_labels.txt", labels.toByteArray()) }
            assertRefused<BundleException>("line ") { Bundle.open(folder) }
        }
        val windows = names.joinToString("\r\n", prefix = "\uFEFF", postfix = "\r\n").toByteArray()
        assertEquals(names, Bundle.open(bundleCopy().also { replaceFile(it, "demo_labels.txt", windows) }).labels)
    }

    private fun gpuRecord(passed: Boolean) = JsonObject().apply {
        for (name in listOf("adapter", "driver", "reference", "model_sha256", "litert")) addProperty(name, "x")
        addProperty("arithmetic", "float16")
        addProperty("operators", 7)
        addProperty("resident", true)
        addProperty("passed", passed)
        for (name in listOf("refused", "errors", "checks")) add(name, JsonArray())
    }

    private fun npuRecords(passed: Boolean, without: String = "") = JsonArray().apply {
        add(
            JsonObject().apply {
                for (name in listOf("soc", "model_sha256")) addProperty(name, "SM8650")
                for (name in listOf("operators", "taken", "partitions")) addProperty(name, 1)
                for (name in listOf("architecture", "arithmetic", "compiled_bytes", "outputs_sha256")) {
                    add(name, JsonNull.INSTANCE)
                }
                for (name in listOf("resident", "passed")) addProperty(name, passed)
                for (name in listOf("refused", "errors", "checks")) add(name, JsonArray())
                add("versions", JsonObject().apply { addProperty("QNN", "v2.51") })
                remove(without)
            },
        )
    }

    /** What two NPUs took of the demo's model: all, and it ran right. */
    private fun npuResults(manifest: JsonObject) = JsonArray().apply {
        val model = manifest["files"].asJsonObject["demo_synthetic_fp16.tflite"].asJsonObject
        val checks = JsonArray().apply { add(manifest["parity"].asJsonArray[0]) }
        for (soc in listOf("SM8550", "SM8650")) {
            val record = npuRecords(passed = true)[0].asJsonObject
            record.addProperty("soc", soc)
            record.add("model_sha256", model["sha256"])
            record.add("compiled_bytes", model["bytes"])
            add(record.apply { add("checks", checks.deepCopy()) })
        }
    }

    /** Changes of a result after which it proves no file, and what is said of it. */
    private val unproven = listOf<Pair<(JsonObject) -> Unit, String>>(
        { it: JsonObject -> it.addProperty("taken", 0) } to "resident, but its figures",
        { it: JsonObject -> it.addProperty("operators", 0).also { _ -> it.addProperty("taken", 0) } } to
            "resident, but its figures",
        { it: JsonObject -> it.addProperty("partitions", 2).also { _ -> it.addProperty("passed", false) } } to
            "resident, but its figures",
        { it: JsonObject -> it.add("errors", JsonArray().apply { add("x") }) } to "resident, but its figures",
        { it: JsonObject -> it.add("checks", JsonArray()) } to "resident, but its figures",
        { it: JsonObject -> it.addProperty("resident", false) } to "passed, but its figures",
        { it: JsonObject -> it.addProperty("soc", "sm8550") } to "two NPU results of one SoC",
        { it: JsonObject -> it.addProperty("soc", "SM8650\n") } to "expected the name of a SoC",
        { it: JsonObject -> it.addProperty("soc", "SM8750") } to "without the result of its NPU",
        { it: JsonObject -> it.add("compiled_bytes", JsonNull.INSTANCE) } to "without the result of its NPU",
    )

    @Test
    fun `NPU records of this model are read, one of each SoC`() {
        fun withRecords(change: (JsonArray) -> Unit) = bundleCopy { manifest ->
            val model = manifest["files"].asJsonObject["demo_synthetic_fp16.tflite"].asJsonObject
            val records = npuRecords(passed = false)
            records[0].asJsonObject.add("model_sha256", model["sha256"])
            manifest.add("npu", records.also(change))
        }
        val record = Bundle.open(withRecords {}).manifest.npu.single()
        assertEquals(listOf("SM8650", null, 1, "v2.51"), record.run { listOf(soc, architecture, taken, versions["QNN"]) })
        assertRefused<BundleException>("one SoC") { Bundle.open(withRecords { it.add(it[0]) }) }
    }

    @Test
    fun `a GPU record of this model is read`() {
        val folder = bundleCopy { manifest ->
            val model = manifest["files"].asJsonObject["demo_synthetic_fp16.tflite"].asJsonObject
            manifest.add("gpu", gpuRecord(passed = false).apply { add("model_sha256", model["sha256"]) })
        }
        assertEquals(7, Bundle.open(folder).manifest.gpu?.operators)
    }

    @Test
    fun `a file that is missing, cut off or altered is refused`() {
        val names =
            listOf("demo_synthetic_fp16.tflite", "mel_basis.bin", "demo_labels.txt", "selftest.json", "selftest.pcm")
        for (name in names) {
            val missing = bundleCopy().also { File(it, name).delete() }
            assertRefused<BundleException>("no $name") { Bundle.open(missing) }
            val cut = bundleCopy().also { folder ->
                File(folder, name).writeBytes(File(folder, name).readBytes().dropLast(1).toByteArray())
            }
            assertRefused<BundleException>("the manifest says") { Bundle.open(cut) }
            val altered = bundleCopy().also { folder ->
                File(folder, name).writeBytes(File(folder, name).readBytes().also { it[7] = (it[7] + 1).toByte() })
            }
            assertRefused<BundleException>("$name was altered") { Bundle.open(altered) }
        }
        assertRefused<BundleException>("nowhere: no manifest.json") { Bundle.open(File("nowhere")) }
    }

    @Test
    fun `labels and basis that do not fit are refused`() {
        val labels = bundleCopy().also { replaceFile(it, "demo_labels.txt", "one\ntwo\n".toByteArray()) }
        assertRefused<BundleException>("expected 22 different names") { Bundle.open(labels) }
        val basis = bundleCopy().also { replaceFile(it, "mel_basis.bin", ByteArray(4 * 64 * 512)) }
        assertRefused<BundleException>("the front end needs 131328") { Bundle.open(basis) }
        val zeros = bundleCopy().also { replaceFile(it, "mel_basis.bin", ByteArray(4 * 64 * 513)) }
        assertRefused<BundleException>("is not the mel basis") { Bundle.open(zeros) }
        val noNumbers = bundleCopy().also { replaceFile(it, "mel_basis.bin", ByteArray(4 * 64 * 513) { -1 }) }
        assertRefused<BundleException>("is not the mel basis") { Bundle.open(noNumbers) }
    }
}
