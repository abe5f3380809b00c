package io.github.pannslitert.tagging

/**
 * Runs a bundle's model. One thread owns it, and closes it when it is done.
 *
 * An implementation stands for one accelerator: who falls back to another makes another engine, and says why in
 * [fallback].
 */
interface Engine : AutoCloseable {
    /** What runs the model, such as "GPU" or "CPU, 4 threads". */
    val backend: String

    /** Why this is not the accelerator that was wanted; null if it is. */
    val fallback: String?

    /**
     * Runs the model.
     *
     * @param input the model's only input, flat, row-major: log-mel or samples, as the manifest's `graph` says
     * @return every output by its name in the manifest, flat; the arrays may be used again by the next run
     */
    fun run(input: FloatArray): Map<String, FloatArray>
}
