package io.github.pannslitert.bundle

import io.github.pannslitert.BundleException

// Characters that change the order in which a screen shows the text around them, and U+FEFF, which is invisible.
private const val HIDDEN =
    "\u061C\u200E\u200F\u202A\u202B\u202C\u202D\u202E\u2066\u2067\u2068\u2069\uFEFF\u2028\u2029"

/**
 * Reads class names, one a line. Lines end with LF or CR LF.
 *
 * @param where name of the text in messages
 * @throws BundleException a name is empty, there twice, or holds a control character, a surrogate or a character that
 *     changes the direction of text; the message has the number of the line
 */
internal fun classNames(text: String, where: String): List<String> {
    val names = text.replace("\r\n", "\n").removeSuffix("\n").split("\n")
    val seen = mutableMapOf<String, Int>()
    for ((index, name) in names.withIndex()) {
        val line = "$where, line ${index + 1}"
        val bad = name.firstOrNull { it.isISOControl() || it in HIDDEN }
        val why = when {
            name.isBlank() -> "an empty name"
            bad != null -> "the character U+%04X".format(bad.code)
            name in seen -> "the name of line ${seen[name]} again"
            else -> null
        }
        if (why != null) throw BundleException("$line: $why; expected different names, one a line")
        seen[name] = index + 1
    }
    return names
}
