package io.github.pannslitert.measure

import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.tagging.Engine

/**
 * The choice of an engine for a bundle, made by self-tests: the NPU or else the GPU, if it agrees with PyTorch and with
 * the CPU; else the CPU if it agrees with PyTorch; else none.
 *
 * @property engine the chosen engine, which passed its self-test and is open; the caller closes it. Null if none passed
 * @property result self-test of the chosen engine; null if there is none
 * @property attempts self-test of every engine, in the order of preference
 */
class EngineChoice private constructor(
    val engine: Engine?,
    val result: SelfTest.Result?,
    val attempts: List<Attempt>,
) {
    /**
     * The self-test of one engine. [result] is null if the test could not run. [why] is the reason of a failure; it is
     * empty if the engine passed.
     */
    class Attempt(val name: String, val result: SelfTest.Result?, val why: String) {
        val passed: Boolean get() = why.isEmpty()
    }

    companion object {
        /**
         * Tests the engines. They are never open at the same time.
         *
         * @param gpu opens an engine that uses only the GPU, with the given reason for the fallback from the NPU
         * @param cpu opens an engine that uses only the CPU, with the given reason for the fallback
         * @param npu opens an engine on the NPU; null if the app has no libraries for one
         */
        fun make(
            bundle: Bundle,
            selfTest: SelfTest,
            gpu: (fallback: String?) -> Engine,
            cpu: (fallback: String?) -> Engine,
            npu: (() -> Engine)? = null,
        ): EngineChoice {
            fun onCpu(keep: Boolean, fallback: String?) = attempt("CPU", { cpu(fallback) }, keep) {
                selfTest.run(bundle, it, SelfTest.Gate.cpu(bundle.manifest))
            }
            val (first, _) = onCpu(keep = false, fallback = null)
            val failed = mutableListOf<Attempt>()
            fun reason() = failed.joinToString("; ") { "${it.name}: ${it.why}" }.ifEmpty { null }
            for ((name, open) in listOfNotNull(npu?.let { "NPU" to it }, "GPU" to { gpu(reason()) })) {
                val (tried, engine) = attempt(name, open, keep = true) {
                    selfTest.run(bundle, it, SelfTest.Gate.GPU, other = first.result?.probs?.takeIf { first.passed })
                }
                if (engine != null) return EngineChoice(engine, tried.result, failed + tried + first)
                failed += tried
            }
            if (!first.passed) return EngineChoice(null, null, failed + first)
            val (again, used) = onCpu(keep = true, fallback = reason())
            return EngineChoice(used, again.result.takeIf { used != null }, failed + again)
        }

        /** Opens and tests an engine. It stays open only if it passes and [keep] is true. */
        private fun attempt(
            name: String,
            open: () -> Engine,
            keep: Boolean,
            test: (Engine) -> SelfTest.Result,
        ): Pair<Attempt, Engine?> {
            var engine: Engine? = null
            val attempt = try {
                engine = open()
                test(engine).let { Attempt(name, it, it.why) }
            } catch (error: Exception) {
                Attempt(name, null, inWords(error))
            } catch (error: LinkageError) { // there is no native library for this processor
                Attempt(name, null, inWords(error))
            }
            if (keep && attempt.passed) return attempt to engine
            engine?.close()
            return attempt to null
        }

        private fun inWords(error: Throwable): String = error.message?.ifBlank { null } ?: error.javaClass.simpleName
    }
}
