package io.github.pannslitert.sense

import io.github.pannslitert.LabelException
import kotlin.math.max

private const val LEAST_SIMILARITY = 0.6

/** The exception for a name that is none of the labels. It suggests the most similar label, if there is one. */
internal fun unknownLabel(name: String, labels: Collection<String>): LabelException {
    val meant = nearest(name, labels)
    val hint = if (meant == null) "expected a class name of the model" else "did you mean \"$meant\"?"
    return LabelException("no class \"$name\"; $hint")
}

/** Throws unless [labels] are different names, at least one. */
internal fun requireLabels(labels: List<String>) {
    if (labels.isEmpty()) throw LabelException("no class names; expected at least one")
    val twice = labels.groupingBy { it }.eachCount().entries.firstOrNull { it.value > 1 } ?: return
    throw LabelException("the class \"${twice.key}\" ${twice.value} times; expected different names")
}

/** The label that is most similar to [name], also by a part between commas; null if none is similar. Ignores case. */
private fun nearest(name: String, labels: Collection<String>): String? {
    val wanted = name.trim().lowercase()
    return labels
        .map { label -> label to (label.split(",") + label).maxOf { similarity(wanted, it.trim().lowercase()) } }
        .filter { it.second >= LEAST_SIMILARITY }
        .maxByOrNull { it.second }
        ?.first
}

/** Twice the length of the longest common subsequence, divided by the length of both texts: 0 … 1. */
private fun similarity(a: String, b: String): Double {
    val lengths = IntArray(b.length + 1)
    for (x in a) {
        var diagonal = 0
        for (j in b.indices) {
            val above = lengths[j + 1]
            lengths[j + 1] = if (x == b[j]) diagonal + 1 else max(above, lengths[j])
            diagonal = above
        }
    }
    return 2.0 * lengths[b.length] / max(1, a.length + b.length)
}
