package io.github.pannslitert.tagging

/**
 * Runs the model of a bundle. An engine belongs to one thread, which closes it after use.
 *
 * An engine uses one accelerator, an NPU with the CPU's help. For a fallback to another accelerator, make another engine
 * and give the reason in [fallback].
 */
interface Engine : AutoCloseable {
    /** The accelerator that runs the model, for example "GPU" or "CPU, 4 threads". */
    val backend: String

    /** Why this is not the requested accelerator; null if it is. */
    val fallback: String?

    /**
     * Runs the model.
     *
     * @param input the only input of the model, flat, row-major: log-mel or samples, depending on `graph` in the
     *     manifest
     * @return all outputs by their name in the manifest, flat; the next run may reuse the arrays
     */
    fun run(input: FloatArray): Map<String, FloatArray>
}
