package io.github.pannslitert

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonNull
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonPrimitive
import com.google.gson.internal.LazilyParsedNumber
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

    /** The result of [read], or null if there is no such field. */
    fun <T : Any> given(name: String, read: StrictJson.(String) -> T): T? {
        asked += name
        return if (data.has(name)) read(name) else null
    }

    /** Whether the field [name] is an object. */
    fun isObject(name: String): Boolean = data.get(name) is JsonObject

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
        private val WHOLE = Regex("-?[0-9]{1,18}")
        private const val MOST_DEPTH = 32 // of nested lists and objects; no format of this project has more than eight
        private const val MOST_DIGITS = 64 // of a number; 17 are enough for every double

        /**
         * Parses a text that consists of one JSON object. Refused are a name twice in one object, NUL and unpaired
         * surrogates in texts, numbers that are not finite or very long, and more than 32 levels.
         */
        fun parse(text: String, path: String): StrictJson {
            try {
                val reader = JsonReader(StringReader(text.removePrefix("\uFEFF"))) // strict, unlike JsonParser's
                val element = read(reader, path, 0)
                if (reader.peek() != JsonToken.END_DOCUMENT) {
                    throw BundleException("$path: not JSON: text after its end")
                }
                return of(element, path)
            } catch (error: IOException) {
                throw BundleException("$path: not JSON: ${error.message}", error)
            } catch (error: JsonParseException) {
                throw BundleException("$path: not JSON: ${error.message}", error)
            } catch (error: IllegalStateException) { // how JsonReader reports some damaged texts
                throw BundleException("$path: not JSON: ${error.message}", error)
            }
        }

        private fun read(reader: JsonReader, path: String, depth: Int): JsonElement {
            fun refuse(reason: String): Nothing = throw BundleException("$path: $reason")
            if (depth > MOST_DEPTH) refuse("nested more than $MOST_DEPTH deep; expected JSON of a few levels")
            return when (reader.peek()) {
                JsonToken.BEGIN_ARRAY -> JsonArray().also { list ->
                    reader.beginArray()
                    while (reader.hasNext()) list.add(read(reader, path, depth + 1))
                    reader.endArray()
                }

                JsonToken.BEGIN_OBJECT -> JsonObject().also { data ->
                    reader.beginObject()
                    while (reader.hasNext()) {
                        val name = plain(reader.nextName(), path)
                        if (data.has(name)) refuse("$name twice; expected each name once")
                        data.add(name, read(reader, path, depth + 1))
                    }
                    reader.endObject()
                }

                JsonToken.STRING -> JsonPrimitive(plain(reader.nextString(), path))

                JsonToken.NUMBER -> {
                    val digits = reader.nextString()
                    if (digits.length > MOST_DIGITS) refuse("a number of ${digits.length} characters")
                    if (!digits.toDouble().isFinite()) refuse("$digits; expected a finite number")
                    JsonPrimitive(LazilyParsedNumber(digits))
                }

                JsonToken.BOOLEAN -> JsonPrimitive(reader.nextBoolean())

                JsonToken.NULL -> JsonNull.INSTANCE.also { reader.nextNull() }

                else -> refuse("not JSON: no value")
            }
        }

        private fun plain(text: String, path: String): String {
            val paired = text.indices.none { i ->
                val high = text[i].isHighSurrogate() && !(i + 1 < text.length && text[i + 1].isLowSurrogate())
                high || text[i].isLowSurrogate() && !(i > 0 && text[i - 1].isHighSurrogate())
            }
            if ('\u0000' in text || !paired) throw BundleException("$path: a text with NUL or an unpaired surrogate")
            return text
        }

        private fun of(element: JsonElement, path: String) = StrictJson(
            element as? JsonObject ?: throw BundleException("$path: $element; expected an object with named fields"),
            path,
        )
    }
}
