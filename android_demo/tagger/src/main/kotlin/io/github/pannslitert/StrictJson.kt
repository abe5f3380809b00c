package io.github.pannslitert

import com.google.gson.Gson
import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonPrimitive
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.IOException
import java.io.StringReader

/**
 * Strict reader of one JSON object. A field that is read must exist and have the requested type; [requireNoOther]
 * rejects fields that were not read.
 *
 * @param path location of the object, for error messages
 * @throws BundleException from every function: a field is missing, unknown or of another type
 */
internal class StrictJson private constructor(private val data: JsonObject, private val path: String) {
    private val asked = mutableSetOf<String>()

    fun string(name: String): String = primitive(name, "a text") { it.isString }.asString

    fun boolean(name: String): Boolean = primitive(name, "true or false") { it.isBoolean }.asBoolean

    fun number(name: String): Double = finite(primitive(name, "a number") { it.isNumber }.asDouble, name)

    fun long(name: String): Long =
        primitive(name, "a whole number") { it.isNumber && WHOLE.matches(it.asString) }.asLong

    fun int(name: String): Int = long(name).let { value ->
        if (value.toInt().toLong() != value) fail("$name $value; expected a whole number within ±2147483647")
        value.toInt()
    }

    fun numbers(name: String): List<Double> = elements(name).map { item ->
        if (!(item is JsonPrimitive && item.isNumber)) fail("$name holds $item; expected numbers")
        finite(item.asDouble, name)
    }

    fun ints(name: String): List<Int> = numbers(name).map { value ->
        if (value != value.toInt().toDouble()) fail("$name holds $value; expected whole numbers")
        value.toInt()
    }

    fun strings(name: String): List<String> = elements(name).map { item ->
        if (!(item is JsonPrimitive && item.isString)) fail("$name holds $item; expected texts")
        item.asString
    }

    fun child(name: String): StrictJson = of(field(name), "$path.$name")

    fun children(name: String): List<StrictJson> =
        elements(name).mapIndexed { i, item -> of(item, "$path.$name[$i]") }

    /** Reads all fields of the object [name], as a map from the name of a field to the result of [read]. */
    fun <T> map(name: String, read: StrictJson.(String) -> T): Map<String, T> {
        val child = child(name)
        return child.data.keySet().associateWith { child.read(it) }
    }

    /** The result of [read], or null if the field is null. */
    fun <T : Any> optional(name: String, read: StrictJson.(String) -> T): T? =
        if (field(name).isJsonNull) null else read(name)

    /** The result of [read], which must read every field of this object. */
    fun <T> whole(read: StrictJson.() -> T): T = read().also { requireNoOther() }

    /** Throws if this object has a field that was not read. */
    fun requireNoOther() {
        val unknown = data.keySet() - asked
        if (unknown.isNotEmpty()) {
            fail("unknown ${unknown.sorted().joinToString()}; expected only ${asked.sorted().joinToString()}")
        }
    }

    fun fail(message: String): Nothing = throw BundleException("$path: $message")

    private fun field(name: String): JsonElement {
        asked += name
        return data.get(name) ?: fail("missing $name")
    }

    private fun primitive(name: String, expected: String, fits: (JsonPrimitive) -> Boolean): JsonPrimitive {
        val value = field(name)
        return (value as? JsonPrimitive)?.takeIf(fits) ?: fail("$name $value; expected $expected")
    }

    private fun elements(name: String): JsonArray =
        field(name).let { it as? JsonArray ?: fail("$name $it; expected a list") }

    private fun finite(value: Double, name: String): Double =
        if (value.isFinite()) value else fail("$name $value; expected a finite number")

    companion object {
        private val ADAPTER = Gson().getAdapter(JsonElement::class.java)
        private val WHOLE = Regex("-?[0-9]{1,18}")

        /** Parses a text that consists of one JSON object. */
        fun parse(text: String, path: String): StrictJson {
            try {
                val reader = JsonReader(StringReader(text)) // strict, unlike the reader of JsonParser
                val element = ADAPTER.read(reader)
                if (reader.peek() != JsonToken.END_DOCUMENT) {
                    throw BundleException("$path: not JSON: text after its end")
                }
                return of(element, path)
            } catch (error: IOException) {
                throw BundleException("$path: not JSON: ${error.message}", error)
            } catch (error: JsonParseException) {
                throw BundleException("$path: not JSON: ${error.message}", error)
            }
        }

        private fun of(element: JsonElement, path: String) = StrictJson(
            element as? JsonObject ?: throw BundleException("$path: $element; expected an object with named fields"),
            path,
        )
    }
}
