package io.github.pannslitert.measure

import io.github.pannslitert.measure.CrashMark.End
import java.io.File
import kotlin.io.path.createTempDirectory
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class CrashMarkTest {
    private val folder = createTempDirectory("marks").toFile()

    @After
    fun remove() {
        folder.deleteRecursively()
    }

    private fun mark(process: Int, key: String = "model-1.0") = CrashMark(folder, key, process)

    /** Starts of the app: how the process before ended, as far as is known, and whether the attempt is barred then. */
    @Test
    fun `only a crash bars the next attempt`() {
        val cases = mapOf(
            listOf(End.CRASH) to true,
            listOf(End.OTHER) to false,
            listOf(End.UNKNOWN) to false, // once is no proof
            listOf(End.UNKNOWN, End.UNKNOWN) to true,
            listOf(End.OTHER, End.OTHER, End.OTHER) to false,
            listOf(End.OTHER, End.OTHER, End.OTHER, End.OTHER) to true,
            listOf(End.OTHER, End.CRASH) to true,
        )
        for ((ends, barred) in cases) {
            ends.forEachIndexed { i, _ -> mark(100 + i).begin() }
            val asked = mutableListOf<Int>()
            val found = mark(999).isBarred {
                asked += it
                ends.last()
            }
            assertEquals("$ends", barred, found)
            assertEquals(listOf(99 + ends.size), asked)
            mark(999).end()
            assertEquals(false, mark(999).isBarred { End.CRASH })
        }
    }

    @Test
    fun `an attempt that ended, and another model, system or LiteRT, is free`() {
        mark(1).begin()
        mark(1).begin()
        assertEquals(false, mark(1).isBarred { End.CRASH }) // it is this process's own
        assertEquals(false, mark(2).isBarred { End.UNKNOWN }) // both were of one process
        assertEquals(false, mark(2, "model-1.1").isBarred { End.CRASH })
        mark(1).end()
        assertEquals(false, mark(2).isBarred { End.CRASH })
        assertEquals(0, folder.list()?.size)
    }

    @Test
    fun `a damaged file is one unfinished attempt`() {
        for (text in listOf("", "12", "x y", "\u0000\u0000", "9".repeat(99))) {
            File(folder, "attempt-model-1.0").writeText(text)
            assertEquals(text, false, mark(2).isBarred { End.UNKNOWN })
            assertEquals(text, true, mark(2).isBarred { End.CRASH })
        }
        mark(2).begin()
        assertEquals(true, mark(3).isBarred { End.UNKNOWN }) // it was the second one
    }

    @Test
    fun `a key is a file name`() {
        for (key in listOf("", "a/b", "..\\a", "ä", "a b", "a".repeat(201))) {
            assertThrows(IllegalArgumentException::class.java) { mark(1, key) }
        }
    }
}
