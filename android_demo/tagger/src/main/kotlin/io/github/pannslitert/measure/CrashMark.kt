package io.github.pannslitert.measure

import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.readRegular
import java.io.File
import java.io.IOException

/**
 * Remembers attempts that a process did not survive, such as a GPU driver that crashes: [begin] writes a file and [end]
 * removes it. If the file is still there when the app starts again, the process ended in between.
 *
 * Android may have ended it for another reason. From level 30 on, Android says why. A crash counts at once; anything else
 * only if it happens [MOST_OTHER] times in a row, such as a compilation that always needs too much memory. Without that
 * knowledge, one unfinished attempt is forgiven, and two in a row count as a crash.
 *
 * @param folder where the file is, a folder that the app's updates leave alone
 * @param key what was attempted: the model, the version of LiteRT and that of the system, so that an update of any of
 *     them allows another attempt. Only letters, digits, dots, `-` and `_`
 * @param process ID of this process
 * @throws IllegalArgumentException the key has other characters
 */
class CrashMark(folder: File, key: String, private val process: Int) {
    /** Why an earlier process ended. */
    enum class End {
        /** A crash in native code, or a process that did not react any more. */
        CRASH,

        /** Something else: the user, an update, or the system needed memory. */
        OTHER,

        /** Nobody knows. */
        UNKNOWN,
    }

    private val file = File(folder, "attempt-$key")

    init {
        require(KEY.matches(key)) { "key \"$key\"; expected only letters, digits, dots, - and _" }
    }

    /**
     * Whether the attempt must not be made again.
     *
     * @param endOf why the process with an ID ended
     */
    fun isBarred(endOf: (process: Int) -> End): Boolean {
        val (earlier, unfinished) = read() ?: return false
        if (earlier == process) return false // that attempt is still running, or nobody ended it
        return when (endOf(earlier)) {
            End.CRASH -> true
            End.OTHER -> unfinished >= MOST_OTHER
            End.UNKNOWN -> unfinished > 1
        }
    }

    /**
     * Begins an attempt.
     *
     * @throws IOException the file cannot be written
     */
    fun begin() {
        val last = read()
        val unfinished = if (last?.first == process) last.second else (last?.second ?: 0) + 1
        file.parentFile?.mkdirs()
        file.writeText("$process $unfinished\n")
    }

    /** Ends an attempt, whether it succeeded or not: the process is still there. */
    fun end() {
        file.delete()
    }

    /** The process of the last unfinished attempt, and the number of unfinished attempts; null if there is none. */
    private fun read(): Pair<Int, Int>? {
        val words = try {
            decodeUtf8(readRegular(file, MOST_BYTES), file.name).trim().split(" ").map { it.toIntOrNull() }
        } catch (_: IOException) {
            return null
        }
        // A file that is cut: the process ended while it was written.
        return (words.getOrNull(0) ?: UNKNOWN_PROCESS) to (words.getOrNull(1) ?: 1)
    }

    companion object {
        /** So many attempts in a row that ended without a known crash bar the next one. */
        const val MOST_OTHER = 4
        private val KEY = Regex("[A-Za-z0-9._-]{1,200}")
        private const val MOST_BYTES = 100L
        private const val UNKNOWN_PROCESS = -1
    }
}
