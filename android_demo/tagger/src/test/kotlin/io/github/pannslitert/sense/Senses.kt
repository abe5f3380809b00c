package io.github.pannslitert.sense

import com.google.gson.JsonObject
import io.github.pannslitert.fields
import io.github.pannslitert.optional
import io.github.pannslitert.texts

/** Makes a [Sense] with the options of a case in tests/vectors, which are those of the Python runtime. */
internal fun sense(labels: List<String>, options: JsonObject): Sense {
    val temperature = options["temperature"]
    return Sense(
        labels,
        temperature = temperature?.takeIf { it.isJsonPrimitive }?.asDouble ?: 1.0,
        temperatures = temperature?.takeIf { it.isJsonObject }?.let { all -> fields(all) { it.asDouble } }.orEmpty(),
        silenceDbfs = options.optional("silence_dbfs") { it.asDouble },
        rollUp = options.optional("roll_up") { it.asBoolean } ?: false,
        allow = options.optional("allow", ::texts),
        deny = options.optional("deny", ::texts).orEmpty(),
        groups = options.optional("groups") { fields(it, ::texts) },
    )
}
