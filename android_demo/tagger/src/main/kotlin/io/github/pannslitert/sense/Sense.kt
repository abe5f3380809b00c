package io.github.pannslitert.sense

import io.github.pannslitert.LabelException
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.ln1p

/**
 * Converts a model's probabilities to the scores that an app uses: temperature, silence, roll-up, selection and groups,
 * in this order. The Python runtime has the same (`panns_litert.Sense`); tests/vectors/sense.json compares them.
 *
 * ```kotlin
 * val sense = Sense(bundle.labels, silenceDbfs = -60.0, rollUp = true, deny = listOf("Music/"))
 * ```
 *
 * @param classes the class names of the model, such as `bundle.labels`
 * @param temperature divisor of the logits, > 0; above 1 for an overconfident model
 * @param temperatures the temperature of single classes, by name
 * @param silenceDbfs gate, dB: in a window with a lower level every score is 0; null for no gate
 * @param rollUp whether a class scores at least as high as the classes below it in AudioSet's ontology
 * @param allow "Dog" for a class, "Animal/" for a node and everything below it; all other classes score 0. Null for all
 * @param deny classes that score 0, written as for [allow]
 * @param groups name of each group to its members, written as for [allow]. The groups replace the classes
 * @throws LabelException a name is unknown (the message suggests the nearest one), a group is empty, a temperature is
 *     not > 0, or the gate is not a number
 */
class Sense(
    private val classes: List<String>,
    temperature: Double = 1.0,
    temperatures: Map<String, Double> = mapOf(),
    private val silenceDbfs: Double? = null,
    rollUp: Boolean = false,
    allow: List<String>? = null,
    deny: List<String> = listOf(),
    groups: Map<String, List<String>>? = null,
) {
    /** Names of the scores: the classes, or the groups. */
    val labels: List<String> = groups?.keys?.toList() ?: classes.toList()

    private val temperature: DoubleArray?
    private val rolledUp: Ontology?
    private val kept: BooleanArray?
    private val groups: List<IntArray>?

    init {
        requireLabels(classes)
        if (silenceDbfs != null && silenceDbfs.isNaN()) {
            throw LabelException("silenceDbfs = NaN; expected a level in dB, such as -60, or null")
        }
        if (groups != null && groups.isEmpty()) throw LabelException("no groups; expected at least one, or null")
        temperatures.keys.firstOrNull { it !in classes }?.let { throw unknownLabel(it, classes) }
        val divisors = DoubleArray(classes.size) { temperatures[classes[it]] ?: temperature }
        for (value in divisors.asList() + temperature) {
            if (!(value > 0.0 && value.isFinite())) throw LabelException("temperature $value; expected a number > 0")
        }
        this.temperature = divisors.takeIf { all -> all.any { it != 1.0 } }
        val chosen = allow != null || deny.isNotEmpty()
        // Reading the ontology takes some milliseconds, and most runs do not need it.
        val ontology = if (rollUp || chosen || groups != null) Ontology(classes) else null
        rolledUp = ontology?.takeIf { rollUp }
        kept = if (chosen) ontology?.select(allow, deny) else null
        this.groups = groups?.let { ontology?.members(it) }
    }

    /**
     * Converts the probabilities of one window, or of one of its frames, to scores.
     *
     * @param probs one per class, 0 … 1
     * @param levelDbfs level of the window's samples, such as `Tagging.levelDbfs`; null if unknown: then the window is
     *     not silent
     * @return one score per label, 0 … 1
     * @throws LabelException wrong number of probabilities
     */
    fun scores(probs: FloatArray, levelDbfs: Double? = null): FloatArray {
        if (probs.size != classes.size) {
            throw LabelException("${probs.size} probabilities; expected ${classes.size}, one per class")
        }
        if (levelDbfs != null && silenceDbfs != null && levelDbfs < silenceDbfs) return FloatArray(labels.size)
        var scores = probs.copyOf()
        temperature?.let { divisors -> for (i in scores.indices) scores[i] = tempered(scores[i], divisors[i]) }
        rolledUp?.let { scores = it.rollUp(scores) }
        kept?.let { for (i in scores.indices) if (!it[i]) scores[i] = 0f }
        return groups?.map { Ontology.highest(scores, it) }?.toFloatArray() ?: scores
    }

    /** The labels whose scores come from these classes alone: the classes, or the groups without others. */
    internal fun labelsOf(names: Collection<String>): List<String> {
        val members = groups ?: return labels.filter { it in names }
        return labels.filterIndexed { group, _ -> members[group].all { classes[it] in names } }
    }

    /** A probability with its logit divided by a temperature. The logits of 0 and 1 are infinite, which is right. */
    private fun tempered(prob: Float, divisor: Double): Float {
        val logit = ln(prob.toDouble()) - ln1p(-prob.toDouble())
        return (1.0 / (1.0 + exp(-logit / divisor))).toFloat()
    }
}
