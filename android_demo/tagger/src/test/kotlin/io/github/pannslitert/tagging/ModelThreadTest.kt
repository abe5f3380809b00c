package io.github.pannslitert.tagging

import io.github.pannslitert.EngineException
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread
import org.junit.Assert.assertEquals
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ModelThreadTest {
    @Test
    fun `all tasks run on one thread, in order, also from within a task`() {
        val model = ModelThread()
        val seen = mutableListOf<Pair<Int, Thread>>()
        for (i in 0..5) model.execute { seen += i to Thread.currentThread() }
        model.call { model.call { seen += 6 to Thread.currentThread() } }
        assertEquals((0..6).toList(), seen.map { it.first })
        assertEquals(1, seen.map { it.second }.toSet().size)
        model.end {}
    }

    @Test
    fun `exceptions and errors are passed on as they are`() {
        val model = ModelThread()
        for (error in listOf(EngineException("the driver is gone"), OutOfMemoryError("none left"))) {
            assertSame(error, assertThrows(Throwable::class.java) { model.call { throw error } })
        }
        assertEquals(7, model.call { 7 })
        model.end {}
    }

    @Test
    fun `the last task is the last`() {
        val model = ModelThread()
        val done = mutableListOf<String>()
        val ended = CountDownLatch(1)
        model.execute { done += "waiting" }
        model.end {
            done += "closed"
            ended.countDown()
        }
        model.end { done += "closed twice" }
        model.execute { done += "too late" }
        val refusal = assertThrows(IllegalStateException::class.java) { model.call { done += "too late" } }
        assertTrue("${refusal.message}", "open another one" in refusal.message.orEmpty())
        assertTrue(ended.await(60, TimeUnit.SECONDS))
        assertEquals(listOf("waiting", "closed"), done)
    }

    /** As in SoundTagger.open: what a superseded opening made is closed, although nobody waits for it any more. */
    @Test
    fun `who is interrupted does not wait, and the rest is done`() {
        val model = ModelThread()
        val (running, release, closed) = List(3) { CountDownLatch(1) }
        var opened = false
        val caller = thread {
            try {
                model.call {
                    running.countDown()
                    release.await()
                    opened = true
                }
            } catch (_: InterruptedException) {
                model.end { if (opened) closed.countDown() }
            }
        }
        assertTrue(running.await(60, TimeUnit.SECONDS))
        caller.interrupt()
        caller.join(60_000)
        assertEquals(1L, closed.count)
        release.countDown()
        assertTrue(closed.await(60, TimeUnit.SECONDS))
    }
}
