package io.github.pannslitert.measure

import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.tagging.Engine

/**
 * The engine to use for a bundle: the GPU if it agrees with PyTorch and with the CPU, else the CPU if that agrees with
 * PyTorch, else none.
 *
 * @property engine proven, and open: whoever asked owns it; null if none is
 * @property result its self-test
 * @property attempts what was tried, in words; of every engine, in the order of preference
 */
class EngineChoice private constructor(
    val engine: Engine?,
    val result: SelfTest.Result?,
    val attempts: List<Attempt>,
) {
    /** One engine's self-test; [result] is null if there was none to be had, [why] is empty if it passed. */
    class Attempt(val name: String, val result: SelfTest.Result?, val why: String) {
        val passed: Boolean get() = why.isEmpty()
    }

    companion object {
        /**
         * Tries both; at no time are both open.
         *
         * @param gpu opens an engine of the GPU alone
         * @param cpu opens an engine of the CPU alone, which is given the reason for that as its fallback
         */
        fun make(
            bundle: Bundle,
            selfTest: SelfTest,
            gpu: () -> Engine,
            cpu: (fallback: String?) -> Engine,
        ): EngineChoice {
            fun onCpu(keep: Boolean, fallback: String?) = attempt("CPU", { cpu(fallback) }, keep) {
                selfTest.run(bundle, it, SelfTest.Gate.cpu(bundle.manifest))
            }
            val (first, _) = onCpu(keep = false, fallback = null)
            val (onGpu, whole) = attempt("GPU", gpu, keep = true) {
                selfTest.run(bundle, it, SelfTest.Gate.GPU, other = first.result?.probs?.takeIf { first.passed })
            }
            if (whole != null) return EngineChoice(whole, onGpu.result, listOf(onGpu, first))
            if (!first.passed) return EngineChoice(null, null, listOf(onGpu, first))
            val (again, used) = onCpu(keep = true, fallback = "GPU: ${onGpu.why}")
            return EngineChoice(used, again.result.takeIf { used != null }, listOf(onGpu, again))
        }

        /** The engine is left open only if it passed and [keep]. */
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
            } catch (error: LinkageError) { // the native library is not there for this processor
                Attempt(name, null, inWords(error))
            }
            if (keep && attempt.passed) return attempt to engine
            engine?.close()
            return attempt to null
        }

        private fun inWords(error: Throwable): String = error.message?.ifBlank { null } ?: error.javaClass.simpleName
    }
}
