package io.github.pannslitert.sense

import io.github.pannslitert.LabelException
import io.github.pannslitert.StrictJson
import io.github.pannslitert.decodeUtf8
import kotlin.math.max

/**
 * The classes of a model in AudioSet's ontology (Google, CC BY-SA 4.0): which class is a kind of which other. A class
 * that AudioSet does not have is above and below no other. The library contains the ontology as a resource, the same
 * file as the Python runtime.
 *
 * Where classes are selected, "Dog" means only that class, and "Animal/" means Animal and everything below it. A name
 * that is not a class of the model, such as "Human sounds", needs the slash. Some sounds are below several others:
 * Growling is below Dog, Cat and two more.
 *
 * @param labels class names, in the order of the scores
 * @throws LabelException there are no labels, or two are the same
 */
class Ontology(val labels: List<String>) {
    private val index = labels.withIndex().associate { (i, label) -> label to i }
    private val children: Map<String, List<String>>
    private val within: List<IntArray>

    init {
        requireLabels(labels)
        children = AUDIOSET + labels.filter { it !in AUDIOSET }.associateWith { listOf() }
        within = labels.map(::classesWithin)
    }

    /**
     * The names of the nodes directly below a node, in the order of the ontology.
     *
     * @throws LabelException there is no such node; the message suggests the nearest name
     */
    fun children(name: String): List<String> = children[name] ?: throw unknownLabel(name, children.keys)

    /**
     * Scores in which a class scores at least as high as every class below it: a dog is also an animal.
     *
     * @param scores one per class
     * @throws LabelException wrong number of scores
     */
    fun rollUp(scores: FloatArray): FloatArray {
        requireScores(scores)
        return FloatArray(scores.size) { highest(scores, within[it]) }
    }

    /**
     * Which classes to keep: the allowed ones, without the denied ones.
     *
     * @param allow "Dog" for a class, "Animal/" for a node and everything below it; null for all classes
     * @param deny the same for the classes to leave out
     * @throws LabelException a name is unknown, or the model has no such class; the message suggests the nearest name
     */
    fun select(allow: List<String>? = null, deny: List<String> = listOf()): BooleanArray {
        val kept = BooleanArray(labels.size) { allow == null }
        for (i in chosen(allow.orEmpty())) kept[i] = true
        for (i in chosen(deny)) kept[i] = false
        return kept
    }

    /**
     * The highest score within each group of classes, in the order of [groups].
     *
     * @param scores one per class
     * @param groups name of each group to its members, written as for [select]
     * @throws LabelException wrong number of scores, an empty group, or an unknown name
     */
    fun group(scores: FloatArray, groups: Map<String, List<String>>): FloatArray {
        requireScores(scores)
        return members(groups).map { highest(scores, it) }.toFloatArray()
    }

    /** The indices of the members of each group. */
    internal fun members(groups: Map<String, List<String>>): List<IntArray> = groups.map { (name, members) ->
        if (members.isEmpty()) throw LabelException("group \"$name\" is empty; expected at least one class")
        chosen(members)
    }

    private fun requireScores(scores: FloatArray) {
        if (scores.size != labels.size) {
            throw LabelException("${scores.size} scores; expected ${labels.size}, one per class")
        }
    }

    private fun chosen(names: List<String>): IntArray = names.flatMap { named(it).asList() }.distinct().toIntArray()

    private fun named(name: String): IntArray {
        index[name]?.let { return intArrayOf(it) }
        val node = name.removeSuffix("/")
        if (node !in children) throw unknownLabel(node, children.keys)
        if (node == name) {
            throw LabelException("\"$name\" is no class of the model; expected a class, or \"$name/\" for all below it")
        }
        val classes = classesWithin(node)
        if (classes.isEmpty()) throw LabelException("the model has no class within \"$name\"; expected one that it has")
        return classes
    }

    /** The indices of the model's classes among a node and everything below it. */
    private fun classesWithin(name: String): IntArray {
        val seen = mutableSetOf(name)
        val waiting = ArrayDeque(seen)
        while (waiting.isNotEmpty()) waiting += children.getValue(waiting.removeLast()).filter(seen::add)
        return seen.mapNotNull(index::get).toIntArray()
    }

    internal companion object {
        /** Absolute, since R8 may move this class to another package. */
        private const val RESOURCE = "/io/github/pannslitert/sense/audioset_ontology.json"

        /** The highest of the scores of some classes. */
        fun highest(scores: FloatArray, classes: IntArray): Float =
            classes.fold(Float.NEGATIVE_INFINITY) { highest, i -> max(highest, scores[i]) }

        /** The names of AudioSet's nodes, each with the names of the nodes directly below it. */
        private val AUDIOSET: Map<String, List<String>> by lazy {
            val stream = Ontology::class.java.getResourceAsStream(RESOURCE)
                ?: throw LabelException("the library lacks its resource $RESOURCE; package the resources of its JAR")
            val text = decodeUtf8(stream.use { it.readBytes() }, RESOURCE)
            val nodes = StrictJson.parse(text, RESOURCE).children("nodes")
            val names = nodes.associate { it.string("id") to it.string("name") }
            nodes.associate { node -> node.string("name") to node.strings("children").map(names::getValue) }
        }
    }
}
