package io.github.pannslitert.measure

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import com.google.gson.JsonPrimitive
import io.github.pannslitert.BundleException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.BundleFolder
import io.github.pannslitert.bundle.bundleCopy
import io.github.pannslitert.tagging.Engine
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test

/** Tests above all that wrong engines fail the self-test: without that, a pass means nothing. */
class SelfTestTest {
    private val bundle = Bundle.open(File("assets/demo_bundle"))
    private val selfTest = SelfTest.open(bundle)
    private val cpuGate = SelfTest.Gate.cpu(bundle.manifest)

    private val wrong: Map<String, (FloatArray) -> FloatArray> = mapOf(
        "zeros" to { p -> FloatArray(p.size) },
        "NaN" to { p -> FloatArray(p.size) { Float.NaN } },
        "one NaN" to { p -> p.copyOf().also { it[3] = Float.NaN } },
        "infinite" to { p -> p.copyOf().also { it[3] = Float.POSITIVE_INFINITY } },
        "shuffled" to { p -> p.reversedArray() },
        "shifted by a class" to { p -> FloatArray(p.size) { p[(it + 1) % p.size] } },
        "scaled" to { p -> FloatArray(p.size) { p[it] * 0.9f } },
        "offset" to { p -> FloatArray(p.size) { minOf(1f, p[it] + 0.1f) } },
        "constant" to { p -> FloatArray(p.size) { 0.5f } },
        "short" to { p -> p.copyOf(p.size - 1) },
    )

    /** An engine that returns given probabilities, in place of an accelerator. */
    private inner class Answering(
        override val backend: String,
        private val probs: FloatArray,
        override val fallback: String? = null,
    ) : Engine {
        var closed = false

        override fun run(input: FloatArray): Map<String, FloatArray> {
            assertFalse("$backend runs after it was closed", closed)
            return mapOf("probs" to probs, "embedding" to FloatArray(96))
        }

        override fun close() {
            assertFalse("$backend is closed twice", closed)
            closed = true
        }
    }

    @Test
    fun `PyTorch's own probabilities pass both gates, float16 noise passes the GPU's`() {
        for (gate in listOf(SelfTest.Gate.GPU, cpuGate)) {
            val same = SelfTest.compare(selfTest.probs, selfTest.probs, gate)
            assertTrue(same.passed && same.maxAbs == 0.0 && same.corr!! > 1 - 1e-12 && same.top5 == 5)
        }
        val noisy = FloatArray(22) { (selfTest.probs[it] + if (it % 2 == 0) 0.01f else -0.01f).coerceIn(0f, 1f) }
        assertTrue(SelfTest.compare(noisy, selfTest.probs, SelfTest.Gate.GPU).passed)
        assertTrue("max abs" in SelfTest.compare(noisy, selfTest.probs, cpuGate).why)
    }

    @Test
    fun `wrong probabilities fail both gates`() {
        for ((name, change) in wrong) for (gate in listOf(SelfTest.Gate.GPU, cpuGate)) {
            assertFalse(name, SelfTest.compare(change(selfTest.probs), selfTest.probs, gate).passed)
        }
        val flat = FloatArray(22) { 0.5f }
        assertTrue("flat" in SelfTest.compare(flat, flat, SelfTest.Gate.GPU).why)
    }

    @Test
    fun `the CPU's gate has the limits of the conversion`() {
        assertEquals(SelfTest.Gate(maxAbs = 5e-3, corr = 0.9999, top5 = true), cpuGate)
    }

    @Test
    fun `the GPU is used if it is right, and nothing else stays open`() {
        val (gpu, cpu) = Answering("GPU", selfTest.probs) to Answering("CPU", selfTest.probs)
        val choice = EngineChoice.make(bundle, selfTest, gpu = { gpu }, cpu = { cpu })
        assertSame(gpu, choice.engine)
        assertTrue(cpu.closed && !gpu.closed)
        assertEquals(listOf("GPU" to true, "CPU" to true), choice.attempts.map { it.name to it.passed })
        assertEquals(0.0, choice.result!!.withOther!!.maxAbs!!, 0.0)
    }

    @Test
    fun `a wrong GPU is closed, and the CPU's fallback gives the reason`() {
        for ((name, change) in wrong) {
            val gpu = Answering("GPU", change(selfTest.probs))
            val made = mutableListOf<Answering>()
            val cpu = { fallback: String? -> Answering("CPU", selfTest.probs, fallback).also(made::add) }
            val choice = EngineChoice.make(bundle, selfTest, { gpu }, cpu)
            assertTrue(name, gpu.closed)
            assertSame(name, made.last(), choice.engine)
            assertEquals(name, listOf(true, false), made.map { it.closed })
            assertEquals(name, listOf(false, true), choice.attempts.map { it.passed })
            assertEquals(name, "GPU: ${choice.attempts[0].why}", choice.engine!!.fallback)
        }
    }

    @Test
    fun `without a GPU the CPU is used, and its fallback has the delegate's message`() {
        val cpu = { fallback: String? -> Answering("CPU", selfTest.probs, fallback) }
        val choice = EngineChoice.make(bundle, selfTest, { error("no OpenCL") }, cpu)
        assertEquals("GPU: no OpenCL", choice.engine!!.fallback)
        val missing = EngineChoice.make(bundle, selfTest, { throw UnsatisfiedLinkError("litert_jni") }, cpu)
        assertEquals("GPU: litert_jni", missing.engine!!.fallback)
    }

    @Test
    fun `an NPU comes first, and if it fails the GPU and the CPU give its reason`() {
        val right = { backend: String, fallback: String? -> Answering(backend, selfTest.probs, fallback) }
        fun choose(npu: () -> Engine, gpu: (String?) -> Engine) =
            EngineChoice.make(bundle, selfTest, gpu, { right("CPU", it) }, npu)

        val first = choose({ right("NPU", null) }, { error("not needed") })
        assertEquals(listOf("NPU", "CPU"), first.attempts.map { it.name })
        assertEquals("NPU", first.engine!!.backend)
        assertNull(first.engine.fallback)

        for ((name, change) in wrong) {
            val npu = Answering("NPU", change(selfTest.probs))
            val second = choose({ npu }, { right("GPU", it) })
            assertTrue(name, npu.closed)
            assertEquals(name, listOf(false, true, true), second.attempts.map { it.passed })
            assertEquals(name, "GPU", second.engine!!.backend)
            assertEquals(name, "NPU: ${second.attempts[0].why}", second.engine.fallback)
        }

        val third = choose({ error("no NPU") }, { error("no OpenCL") })
        assertEquals("NPU: no NPU; GPU: no OpenCL", third.engine!!.fallback)
        assertEquals(listOf("NPU", "GPU", "CPU"), third.attempts.map { it.name })
    }

    @Test
    fun `if both are wrong there is no engine, and both are closed`() {
        for ((name, change) in wrong) {
            val made = mutableListOf<Answering>()
            fun bad(backend: String) = Answering(backend, change(selfTest.probs)).also(made::add)
            val choice = EngineChoice.make(bundle, selfTest, { bad("GPU") }, { bad("CPU") })
            assertNull(name, choice.engine)
            assertNull(name, choice.result)
            assertTrue(name, made.size == 2 && made.all { it.closed })
            assertTrue(name, choice.attempts.none { it.passed })
        }
    }

    @Test
    fun `a GPU that is near PyTorch but not near the CPU fails`() {
        val cpuProbs = selfTest.probs
        val gpuProbs = FloatArray(22) { (cpuProbs[it] + 0.04f).coerceAtMost(1f) }
        val other = FloatArray(22) { 0.3f * it / 22 }
        val result = selfTest.run(bundle, Answering("GPU", gpuProbs), SelfTest.Gate.GPU, other)
        assertTrue("against the CPU" in result.why)
    }

    @Test
    fun `a self-test that is missing, altered or for another model is refused`() {
        val none = bundleCopy { manifest ->
            for (name in listOf("selftest.json", "selftest.pcm")) manifest["files"].asJsonObject.remove(name)
        }
        assertRefused<BundleException>("convert the bundle again: panns-litert convert") { SelfTest.open(Bundle.open(none)) }
        assertRefused<BundleException>("no selftest.json") { SelfTest.open(bundle, BundleFolder(File("assets"))) }
        val changes: Map<String, (JsonObject) -> Unit> = mapOf(
            "model_sha256" to { it.addProperty("model_sha256", "0".repeat(64)) },
            "sample_rate" to { it.addProperty("sample_rate", 16000) },
            "samples_sha256" to { it.addProperty("samples_sha256", "0".repeat(64)) },
            "bytes of selftest.pcm" to { it.addProperty("samples", 63999) },
            "number of probs" to { it["probs"].asJsonArray.remove(0) },
            "outside 0" to { it["probs"].asJsonArray[0] = JsonPrimitive(1.5) },
            "format_version" to { it.addProperty("format_version", 2) },
            "unknown" to { it.addProperty("extra", 1) },
            "missing" to { it.remove("probs") },
        )
        for ((message, change) in changes) {
            val file = File(bundleCopy(), "selftest.json")
            file.writeText(JsonParser.parseString(file.readText()).asJsonObject.also(change).toString())
            assertRefused<BundleException>(message) { SelfTest.open(bundle, BundleFolder(file.parentFile)) }
        }
    }
}
