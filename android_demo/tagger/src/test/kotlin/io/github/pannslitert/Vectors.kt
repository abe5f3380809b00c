package io.github.pannslitert

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import java.io.File

/** Reads a file of tests/vectors. */
internal fun vectors(name: String): JsonObject =
    JsonParser.parseString(File("tests/vectors/$name").readText()).asJsonObject

/** The objects in a list. */
internal fun JsonObject.rows(name: String): List<JsonObject> = get(name).asJsonArray.map { it.asJsonObject }

/** The texts in a list. */
internal fun texts(list: JsonElement): List<String> = list.asJsonArray.map { it.asString }

/** A value, or null if it is missing or null. */
internal fun <T> JsonObject.optional(name: String, read: (JsonElement) -> T): T? =
    get(name)?.takeUnless { it.isJsonNull }?.let(read)

/** The fields of an object, in their order. */
internal fun <T> fields(data: JsonElement, read: (JsonElement) -> T): Map<String, T> =
    data.asJsonObject.entrySet().associate { (name, value) -> name to read(value) }
