package io.github.pannslitert.measure

import io.github.pannslitert.BundleException
import io.github.pannslitert.EngineException
import io.github.pannslitert.RecordException
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.BundleFiles
import io.github.pannslitert.tagging.Engine
import io.github.pannslitert.tagging.Tagger
import java.io.File
import java.io.IOException
import java.nio.BufferUnderflowException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.time.LocalDate

/**
 * Measures a bundle on engines for a device record, as `panns-litert bench` does.
 *
 * @param selfTest run on every engine first. An engine that fails it is not measured: the speed of wrong results is
 *     meaningless
 * @param versions versions of the software, by name
 */
class Measurement(
    private val bundle: Bundle,
    private val selfTest: SelfTest,
    private val versions: Map<String, String>,
) {
    /**
     * One setting to measure.
     *
     * @property adapter name of the GPU; null for the CPU
     * @property threads number of threads of the CPU; null for the GPU
     */
    class Setting private constructor(val adapter: String?, val threads: Int?) {
        override fun toString() = if (threads == null) "GPU" else "CPU, $threads thread${if (threads > 1) "s" else ""}"

        companion object {
            fun cpu(threads: Int) = Setting(null, threads)

            fun gpu(adapter: String) = Setting(adapter, null)
        }
    }

    /**
     * Opens an engine, measures it and closes it.
     *
     * @param open opens an engine with exactly this setting; this function closes it
     * @param warmup number of inferences that are not timed, ≥ 1. The first inference always is one of them, because it
     *     may include compilation
     * @param runs number of inferences that are timed, ≥ 1
     * @throws EngineException the engine fails the self-test, or a number is out of range. Exceptions of [open] are
     *     passed on
     */
    fun run(setting: Setting, open: () -> Engine, warmup: Int = 3, runs: Int = 30): Run {
        if (warmup < 1 || runs < 1) throw EngineException("$warmup warm-up runs, $runs runs; expected at least 1 each")
        val manifest = bundle.manifest
        val model = manifest.files.getValue(manifest.file("model"))
        val operators = operatorCount(bundle.files, manifest.file("model"))
        val start = System.nanoTime()
        return open().use { engine ->
            val openMs = Tagger.millisecondsSince(start)
            val tagger = Tagger(bundle, engine, top = 1)
            val firstMs = openMs + tagger.tag(selfTest.samples).modelMs
            val gate = if (setting.threads == null) SelfTest.Gate.GPU else SelfTest.Gate.cpu(manifest)
            val wrong = selfTest.run(bundle, engine, gate).why
            if (wrong.isNotEmpty()) throw EngineException("$setting fails the self-test: $wrong; it is not measured")
            repeat(warmup - 1) { tagger.tag(selfTest.samples) }
            val ms = List(runs) { tagger.tag(selfTest.samples).modelMs }
            Run(
                model = manifest.model,
                network = manifest.network,
                precision = manifest.precision,
                graph = manifest.graph,
                clipSeconds = manifest.clipSeconds,
                modelBytes = model.bytes,
                modelSha256 = model.sha256,
                engine = if (setting.threads == null) "gpu" else "cpu",
                adapter = setting.adapter,
                driver = null,
                xnnpack = if (setting.threads == null) null else true, // LiteRT's CPU accelerator is XNNPACK
                threads = setting.threads,
                versions = versions,
                warmup = warmup + SELF_TEST_RUNS,
                runs = runs,
                ms = Latency.of(ms),
                firstMs = firstMs,
                peakMemoryBytes = peakMemoryBytes(),
                operators = operators,
                // The engine uses only the GPU: if it refused an operator, the engine would not open.
                resident = if (setting.threads == null) operators else null,
                date = LocalDate.now().toString(),
                agreement = Agreement.of(manifest),
            )
        }
    }

    private companion object {
        const val SELF_TEST_RUNS = 2
    }
}

/**
 * The largest resident memory of this process so far, bytes, as Linux and Android count it.
 *
 * @throws RecordException the system does not report it
 */
internal fun peakMemoryBytes(status: File = File("/proc/self/status")): Long {
    val line = try {
        status.readLines().firstOrNull { it.startsWith("VmHWM:") }
    } catch (error: IOException) {
        throw RecordException("$status: ${error.message}; expected the process's memory", error)
    }
    val kilobytes = line?.let { Regex("[0-9]+").find(it)?.value?.toLong() }
    return 1024 * (kilobytes ?: throw RecordException("$status has no VmHWM; expected the process's memory"))
}

/**
 * The number of operators in the graph of a .tflite file: those of the first subgraph.
 *
 * @throws BundleException the file is not a .tflite file, or it is damaged
 */
internal fun operatorCount(files: BundleFiles, model: String): Int {
    try {
        val data = files.map(model).order(ByteOrder.LITTLE_ENDIAN)
        if (data.capacity() < 8 || data.getInt(4) != IDENTIFIER) throw BundleException("$model: not a .tflite file")
        val subgraphs = data.vector(data.getInt(0), SUBGRAPHS)
        if (data.getInt(subgraphs) < 1) throw BundleException("$model: it has no graph")
        val first = subgraphs + 4
        return data.getInt(data.vector(first + data.getInt(first), OPERATORS))
    } catch (error: IndexOutOfBoundsException) {
        throw BundleException("$model: damaged .tflite file; convert it again", error)
    } catch (error: BufferUnderflowException) {
        throw BundleException("$model: damaged .tflite file; convert it again", error)
    } catch (error: IOException) {
        throw BundleException("$model: ${error.message}; expected a .tflite file", error)
    }
}

/**
 * The position of the vector in a field of a flatbuffer table. The vector starts with its length. Layout:
 * flatbuffers.dev/internals.
 */
private fun ByteBuffer.vector(table: Int, field: Int): Int {
    val vtable = table - getInt(table)
    val slot = 4 + 2 * field
    val offset = if (slot < getShort(vtable)) getShort(vtable + slot).toInt() else 0
    if (offset == 0) throw IndexOutOfBoundsException("no field $field")
    return table + offset + getInt(table + offset)
}

// From LiteRT's schema: the identifier "TFL3", and the field numbers of Model.subgraphs and SubGraph.operators.
private const val IDENTIFIER = 0x334C4654
private const val SUBGRAPHS = 2
private const val OPERATORS = 3
