package io.github.pannslitert.demo

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.Model
import com.google.ai.edge.litert.TensorBuffer
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.tagging.Engine

/** The model of a bundle, compiled by LiteRT for exactly one accelerator. Use it only on the thread that opened it. */
class LiteRtEngine private constructor(
    override val backend: String,
    override val fallback: String?,
    private val model: CompiledModel,
    private val inputs: Map<String, TensorBuffer>,
    private val outputs: Map<String, TensorBuffer>,
    private val owned: ArrayDeque<AutoCloseable>,
) : Engine {
    override fun run(input: FloatArray): Map<String, FloatArray> {
        inputs.values.single().writeFloat(input)
        model.run(inputs, outputs, SIGNATURE)
        return outputs.mapValues { (_, buffer) -> buffer.readFloat() }
    }

    override fun close() = closeAll(owned)

    companion object {
        /** Name of the signature in all models that panns_litert_convert.export writes. */
        private const val SIGNATURE = "tag"
        private const val MOST_THREADS = 4

        /** Default number of threads on the CPU. There is a limit, because further threads would run on slow cores. */
        fun mostThreads(): Int = Runtime.getRuntime().availableProcessors().coerceAtMost(MOST_THREADS)

        /**
         * Opens the model on the GPU only.
         *
         * @throws com.google.ai.edge.litert.LiteRtException there is no GPU, or it does not support the whole graph
         */
        fun gpu(bundle: Bundle): LiteRtEngine = open(bundle, "GPU", null, CompiledModel.Options(Accelerator.GPU))

        /**
         * Opens the model on the CPU only.
         *
         * @param fallback why this is not the GPU; null if the GPU was not requested
         */
        fun cpu(bundle: Bundle, fallback: String?, threads: Int = mostThreads()): LiteRtEngine {
            val options = CompiledModel.Options(Accelerator.CPU)
            options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
            return open(bundle, "CPU, $threads thread${if (threads > 1) "s" else ""}", fallback, options)
        }

        private fun open(
            bundle: Bundle,
            backend: String,
            fallback: String?,
            options: CompiledModel.Options,
        ): LiteRtEngine {
            // The newest comes first: buffers are closed before their model. After a failure, nothing stays open.
            val owned = ArrayDeque<AutoCloseable>()
            fun <T : AutoCloseable> own(made: T): T = made.also(owned::addFirst)
            try {
                val environment = own(Environment.create())
                val file = own(Model.load(bundle.file("model").path))
                val model = own(CompiledModel.create(file, options, environment))
                val inputs = bundle.manifest.inputs.map { it.name }
                    .associateWith { own(model.createInputBuffer(it, SIGNATURE)) }
                val outputs = bundle.manifest.outputs.map { it.name }
                    .associateWith { own(model.createOutputBuffer(it, SIGNATURE)) }
                return LiteRtEngine(backend, fallback, model, inputs, outputs, owned)
            } catch (error: Throwable) {
                closeAll(owned)
                throw error
            }
        }

        private fun closeAll(owned: ArrayDeque<AutoCloseable>) {
            while (owned.isNotEmpty()) owned.removeFirst().close()
        }
    }
}
