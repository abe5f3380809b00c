package io.github.pannslitert

/** Throws [AudioException] unless samples [from] … [from] + [count] − 1 lie within [samples]. */
internal fun requireRange(samples: FloatArray, from: Int, count: Int) {
    if (from < 0 || count < 0 || from > samples.size - count) {
        throw AudioException("$count samples from $from of ${samples.size}; expected a range within them")
    }
}
