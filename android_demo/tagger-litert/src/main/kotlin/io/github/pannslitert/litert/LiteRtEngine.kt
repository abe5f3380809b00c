package io.github.pannslitert.litert

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.TensorBuffer
import io.github.pannslitert.EngineException
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.BundleFolder
import io.github.pannslitert.tagging.Engine
import java.io.File

/** The model of a bundle, compiled by LiteRT for one accelerator. Use it only on the thread that opened it. */
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
        /** Version of LiteRT. */
        const val VERSION = BuildConfig.LITERT_VERSION

        /** Name of the signature in all models that panns_litert_convert.export writes. */
        private const val SIGNATURE = "tag"
        private const val MOST_THREADS = 4

        /** Default number of threads on the CPU. There is a limit, because further threads would run on slow cores. */
        fun mostThreads(): Int = Runtime.getRuntime().availableProcessors().coerceAtMost(MOST_THREADS)

        /**
         * Opens the model on the GPU only.
         *
         * @param cache where to keep the compiled program, so that it is compiled only once; null to compile it anew.
         *     See [programCache]
         * @param fallback why this is not the NPU; null if the NPU was not requested
         * @throws com.google.ai.edge.litert.LiteRtException there is no GPU, or it does not support the whole graph
         */
        fun gpu(bundle: Bundle, cache: File?, fallback: String? = null): LiteRtEngine =
            open(bundle, "GPU", fallback, gpuOptions(bundle, cache))

        /** Whether LiteRT supports an NPU in this phone. */
        fun hasNpu(context: Context): Boolean = BuiltinNpuAcceleratorProvider(context).isDeviceSupported()

        /**
         * Opens the model on the NPU. The app must contain the libraries of the NPU's vendor. LiteRT adds the CPU for
         * operators that the NPU does not have, and does not report which these are.
         *
         * @throws EngineException LiteRT does not know an NPU in this phone, or the app has no libraries for it
         * @throws com.google.ai.edge.litert.LiteRtException the NPU refuses the graph
         */
        fun npu(context: Context, bundle: Bundle): LiteRtEngine {
            val provider = BuiltinNpuAcceleratorProvider(context)
            if (!provider.isDeviceSupported()) throw EngineException("LiteRT supports no NPU in this phone")
            return open(bundle, "NPU and CPU", null, CompiledModel.Options(Accelerator.NPU)) {
                val environment = Environment.create(context, provider)
                // Without the libraries, LiteRT would run the whole model on the CPU.
                if (Accelerator.NPU !in environment.getAvailableAccelerators()) {
                    environment.close()
                    throw EngineException("no libraries for the NPU of this phone; expected them in the app")
                }
                environment
            }
        }

        /**
         * Opens the model on the CPU only.
         *
         * @param fallback why this is not the GPU; null if the GPU was not requested
         */
        fun cpu(bundle: Bundle, fallback: String?, threads: Int = mostThreads()): LiteRtEngine =
            open(bundle, cpuName(threads), fallback, cpuOptions(threads))

        /** The folder for compiled GPU programs. Android empties it when the app or the system is updated. */
        fun programCache(context: Context): File = File(context.codeCacheDir, "gpu-programs")

        private fun cpuName(threads: Int) = "CPU, $threads thread${if (threads > 1) "s" else ""}"

        private fun cpuOptions(threads: Int): CompiledModel.Options {
            val options = CompiledModel.Options(Accelerator.CPU)
            options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
            return options
        }

        private fun gpuOptions(bundle: Bundle, cache: File?): CompiledModel.Options {
            val options = CompiledModel.Options(Accelerator.GPU)
            if (cache != null && (cache.isDirectory || cache.mkdirs())) { // without the folder, it works, but slowly
                options.gpuOptions = CompiledModel.GpuOptions(
                    serializationDir = cache.path,
                    // A program fits only the model and the LiteRT that it was compiled from.
                    modelCacheKey = "${bundle.modelSha256}-$VERSION",
                    serializeProgramCache = true,
                )
            }
            return options
        }

        private fun open(
            bundle: Bundle,
            backend: String,
            fallback: String?,
            options: CompiledModel.Options,
            environment: () -> Environment = { Environment.create() },
        ): LiteRtEngine {
            val manifest = bundle.manifest
            // The newest comes first: buffers are closed before their model. After a failure, nothing stays open.
            val owned = ArrayDeque<AutoCloseable>()
            fun <T : AutoCloseable> own(made: T): T = made.also(owned::addFirst)
            try {
                val model = own(compile(bundle, options, own(environment())))
                val inputs = manifest.inputs.map { it.name }
                    .associateWith { own(model.createInputBuffer(it, SIGNATURE)) }
                val outputs = manifest.outputs.map { it.name }
                    .associateWith { own(model.createOutputBuffer(it, SIGNATURE)) }
                return LiteRtEngine(backend, fallback, model, inputs, outputs, owned)
            } catch (error: Throwable) {
                closeAll(owned)
                throw error
            }
        }

        /** Compiles a model where it is, without a copy of the file. */
        private fun compile(bundle: Bundle, options: CompiledModel.Options, environment: Environment): CompiledModel {
            val name = bundle.manifest.file("model")
            return when (val files = bundle.files) {
                is BundleFolder -> CompiledModel.create(File(files.folder, name).path, options, environment)
                is AssetFiles -> {
                    files.stored(name).close() // LiteRT's own error would not say that the file is compressed
                    CompiledModel.create(files.assets, files.path(name), options, environment)
                }
                else -> throw EngineException("$files; expected a bundle in a folder or in the assets of the app")
            }
        }

        private fun closeAll(owned: ArrayDeque<AutoCloseable>) {
            while (owned.isNotEmpty()) owned.removeFirst().close()
        }
    }
}
