package io.github.pannslitert.measure

import io.github.pannslitert.BundleException
import io.github.pannslitert.EngineException
import io.github.pannslitert.RecordException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.BundleFolder
import io.github.pannslitert.tagging.Engine
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class MeasurementTest {
    private val bundle = Bundle.open(File("assets/demo_bundle"))
    private val selfTest = SelfTest.open(bundle)
    private val measurement = Measurement(bundle, selfTest, mapOf("litert" to "2.3.0"))

    /** An engine that returns given probabilities after some milliseconds. */
    private class Slow(private val probs: FloatArray, private val ms: Long) : Engine {
        var runs = 0
        var closed = false
        override val backend = "slow"
        override val fallback: String? = null

        override fun run(input: FloatArray): Map<String, FloatArray> {
            runs++
            Thread.sleep(ms)
            return mapOf("probs" to probs, "embedding" to FloatArray(96))
        }

        override fun close() {
            closed = true
        }
    }

    @Test
    fun `an engine is opened, timed and closed`() {
        val engine = Slow(selfTest.probs, ms = 5)
        val open = { Thread.sleep(40).let { engine } }
        val run = measurement.run(Measurement.Setting.cpu(threads = 4), open, warmup = 2, runs = 3)
        assertTrue(engine.closed)
        assertEquals(run.warmup + run.runs, engine.runs)
        assertEquals(listOf<Any?>("cpu", 4, true), listOf(run.engine, run.threads, run.xnnpack))
        assertEquals(listOf(null, null), listOf(run.adapter, run.resident))
        assertTrue("$run", run.ms.min in 5.0..1000.0 && run.firstMs in 45.0..5000.0)
        assertTrue(run.peakMemoryBytes > 20_000_000)
        assertEquals(bundle.manifest.files.getValue("demo_synthetic_fp16.tflite").sha256, run.modelSha256)
        val proof = bundle.manifest.parity.single { it.stage == "fp16" && it.output == "probs" }
        assertEquals(Agreement(proof.maxAbs!!, proof.corr!!, tags = null), run.agreement)
        val record = DeviceRecord(Device("JVM", "Linux", "some", 1, 1), listOf(run))
        assertEquals(record, DeviceRecord.parse(record.toJson()))
    }

    @Test
    fun `a run on the GPU records that the whole graph ran there`() {
        val run = measurement.run(Measurement.Setting.gpu("Adreno"), { Slow(selfTest.probs, 0) }, warmup = 1, runs = 1)
        assertEquals(listOf("gpu", "Adreno", 41, 41), listOf(run.engine, run.adapter, run.operators, run.resident))
        assertNull(run.threads)
        assertNull(run.xnnpack)
    }

    @Test
    fun `an engine with wrong results is not measured`() {
        val zeros = Slow(FloatArray(22), 0)
        assertRefused<EngineException>("GPU fails the self-test: against the bundle") {
            measurement.run(Measurement.Setting.gpu("Adreno"), { zeros })
        }
        assertTrue(zeros.closed)
        for ((warmup, runs) in listOf(0 to 1, 1 to 0)) {
            assertRefused<EngineException>("at least 1") {
                measurement.run(Measurement.Setting.cpu(1), { zeros }, warmup, runs)
            }
        }
    }

    @Test
    fun `operators are counted in the flatbuffer, and damage is refused`() {
        val name = bundle.manifest.file("model")
        assertEquals(41, operatorCount(bundle.files, name))
        val bytes = bundle.files.open(name).use { it.readBytes() }
        val file = kotlin.io.path.createTempFile("model", ".tflite").toFile()
        fun operatorCount(file: File) = operatorCount(BundleFolder(file.parentFile), file.name)
        try {
            for (size in listOf(0, 4, 8, 16, 40)) {
                file.writeBytes(bytes.copyOf(size))
                assertRefused<BundleException>("tflite") { operatorCount(file) }
            }
            // Whatever the root offset is, the result is a number or this one exception.
            for (at in 0 until 4) for (value in listOf<Byte>(-1, 0, 127)) {
                file.writeBytes(bytes.copyOf().also { it[at] = value })
                try {
                    operatorCount(file)
                } catch (_: BundleException) {
                    continue
                }
            }
        } finally {
            file.delete()
        }
        assertRefused<BundleException>("expected a .tflite file") { operatorCount(file) }
        assertRefused<RecordException>("expected the process's memory") { peakMemoryBytes(file) }
    }
}
