package io.github.pannslitert.tagging

import io.github.pannslitert.AudioException
import io.github.pannslitert.EngineException
import io.github.pannslitert.assertRefused
import io.github.pannslitert.audio.Recording
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.bundle.bundleCopy
import io.github.pannslitert.bundle.takeSamples
import io.github.pannslitert.events.Event
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.sin
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class LiveTaggerTest {
    /** Class 0 is the level of the newest half second of a window: 1 for a tone in all of it. */
    private class Newest(private val before: () -> Unit = {}) : Engine {
        override val backend = "newest"
        override val fallback: String? = null

        override fun run(input: FloatArray): Map<String, FloatArray> {
            before()
            val half = input.copyOfRange(input.size - 16000, input.size)
            val level = half.sumOf { abs(it).toDouble() } / half.size * PI / 2
            val probs = FloatArray(22) { if (it == 0) level.coerceAtMost(1.0).toFloat() else 0f }
            return mapOf("probs" to probs, "embedding" to FloatArray(96))
        }

        override fun close() = Unit
    }

    private class Told : LiveListener {
        val windows = mutableListOf<Tagging>()
        val onsets = mutableListOf<Double>()
        val events = mutableListOf<Event>()
        val progress = mutableListOf<LiveProgress>()
        val failures = mutableListOf<Throwable>()
        val end = CountDownLatch(1)

        override fun onWindow(tagging: Tagging) {
            windows += tagging
        }

        override fun onOnset(label: String, start: Double) {
            onsets += start
        }

        override fun onOffset(event: Event) {
            events += event
        }

        override fun onProgress(progress: LiveProgress) = synchronized(this.progress) { this.progress += progress }

        override fun onEnd() = end.countDown()

        override fun onFailure(error: Throwable) {
            failures += error
            end.countDown()
        }

        fun await() = assertTrue("the stream did not end", end.await(60, TimeUnit.SECONDS))

        fun awaitSeconds(seconds: Double) {
            val deadline = System.nanoTime() + 60_000_000_000L
            while (synchronized(progress) { progress.lastOrNull()?.seconds ?: 0.0 } < seconds - 1e-6) {
                assertTrue("$seconds s were not heard", System.nanoTime() < deadline)
                Thread.sleep(1)
            }
        }
    }

    private val bundle = Bundle.open(bundleCopy(::takeSamples))
    private val here = Executor(Runnable::run)

    /** A tone from second 12 to second 15 of 23.4 s, mono. */
    private fun sound(rate: Int): FloatArray = FloatArray((23.4 * rate).toInt()) {
        val seconds = it.toDouble() / rate
        if (seconds in 12.0..15.0) sin(2 * PI * 440 * seconds).toFloat() else 0f
    }

    private fun parts(samples: FloatArray, size: Int) =
        samples.indices.step(size).map { samples.copyOfRange(it, minOf(it + size, samples.size)) }

    @Test
    fun `the windows and the events are those of the recording`() {
        for ((rate, channels, part) in listOf(Triple(32000, 1, 3200), Triple(48000, 2, 999), Triple(44100, 1, 100_000))) {
            val mono = sound(rate)
            val samples = FloatArray(mono.size * channels) { mono[it / channels] }
            val told = Told()
            val thread = Executors.newSingleThreadExecutor()
            val live = LiveTagger(Tagger(bundle, Newest()), thread, told, hopSeconds = 1.0, mostWaitingSeconds = 99.0)
            for (piece in parts(samples, part * channels)) live.push(piece, rate, channels)
            live.finish()
            told.await()
            thread.shutdown()
            assertEquals(listOf<Throwable>(), told.failures)
            val stream = Tagger(bundle, Newest()).stream(1.0)
            val windows =
                Recording(samples, rate, channels).mono(32000).flatMap { stream.push(it) }.toList() + stream.finish()
            assertEquals(14, windows.size)
            assertEquals(windows.map { it.startSeconds }, told.windows.map { it.startSeconds })
            for ((want, got) in windows zip told.windows) assertArrayEquals(want.probs, got.probs, 1e-6f)
            val whole = Tagger(bundle, Newest()).findEvents(Recording(samples, rate, channels), hopSeconds = 1.0)
            assertEquals(whole.events, told.events)
            assertEquals(1, told.onsets.size)
            assertEquals(23.4, told.progress.last().seconds, 1e-3)
            assertEquals(0.0, told.progress.last().lostSeconds, 0.0)
            assertEquals(8.4, told.progress.last().silentSeconds, part.toDouble() / rate + 1e-6)
        }
    }

    /** The tone begins at 12 s. The window that ends at 13 s has it in its newest half second. */
    @Test
    fun `an onset is told within a hop after enough of the sound was heard`() {
        val told = Told()
        val live = LiveTagger(Tagger(bundle, Newest()), here, told, hopSeconds = 1.0)
        var heard = 0.0
        for (piece in parts(sound(32000), 3200)) {
            live.push(piece, 32000)
            heard += 0.1
            if (told.onsets.isNotEmpty()) break
        }
        assertEquals(13.0, heard, 0.101)
        assertEquals(listOf<Event>(), told.events) // the event goes on
        live.finish()
        assertEquals(1, told.events.size)
    }

    @Test
    fun `what waits too long is lost, counted, and in no window`() {
        val told = Told()
        val (blocked, released) = CountDownLatch(1) to CountDownLatch(1)
        val engine = Newest {
            blocked.countDown()
            released.await(60, TimeUnit.SECONDS)
        }
        val thread = Executors.newSingleThreadExecutor()
        val live = LiveTagger(Tagger(bundle, engine), thread, told, hopSeconds = 1.0, mostWaitingSeconds = 3.05)
        val pieces = parts(FloatArray(30 * 32000) { sin(2 * PI * 440 * it / 32000).toFloat() }, 3200)
        for ((i, piece) in pieces.take(99).withIndex()) { // no faster than they are heard
            live.push(piece, 32000)
            told.awaitSeconds(0.1 * (i + 1))
        }
        live.push(pieces[99], 32000) // completes the first window
        assertTrue(blocked.await(60, TimeUnit.SECONDS))
        pieces.subList(100, 200).forEach { live.push(it, 32000) } // returns, although the model does not
        released.countDown()
        told.awaitSeconds(12.9) // now nothing waits, so that the next piece is not lost, too
        for ((i, piece) in pieces.withIndex().drop(200)) {
            live.push(piece, 32000)
            told.awaitSeconds(0.1 * (i + 1))
        }
        live.finish()
        told.await()
        thread.shutdown()
        assertEquals(listOf<Throwable>(), told.failures)
        val last = told.progress.last()
        assertEquals(30.0, last.seconds, 1e-6)
        assertEquals(7.1, last.lostSeconds, 1e-6) // from 12.9 to 20 s
        assertEquals((0..20).map { it.toDouble() }, told.windows.map { it.startSeconds })
        assertEquals(listOf(0, 1, 2, 20), told.windows.filter { it.unusable == null }.map { it.index })
        assertEquals(setOf("7.1 s of sound were lost at 12.9 s"), told.windows.mapNotNull { it.unusable }.toSet())
    }

    @Test
    fun `a source that was gone leaves a gap of that length`() {
        val told = Told()
        val live = LiveTagger(Tagger(bundle, Newest()), here, told, hopSeconds = 1.0)
        parts(FloatArray(48000 * 11) { 0.5f }, 4800).forEach { live.push(it, 48000) }
        live.lose(2.5)
        parts(FloatArray(16000 * 2 * 15) { 0.5f }, 3200).forEach { live.push(it, 16000, channels = 2) } // another one
        live.lose(0.25)
        live.finish()
        assertEquals(listOf<Throwable>(), told.failures)
        assertEquals(28.75, told.progress.last().seconds, 1e-6)
        assertEquals(2.75, told.progress.last().lostSeconds, 1e-6)
        val usable = told.windows.filter { it.unusable == null }.map { it.startSeconds }
        assertEquals(listOf(0.0, 1.0, 14.0, 15.0, 16.0, 17.0, 18.0), usable)
        assertEquals(28.75, told.windows.last().run { startSeconds + seconds }, 0.02)
    }

    @Test
    fun `a failure is told once, and ends the stream`() {
        for (error in listOf(EngineException("the driver is gone"), NoClassDefFoundError("a library"))) {
            val told = Told()
            val live = LiveTagger(Tagger(bundle, Newest { throw error }), here, told, hopSeconds = 1.0)
            parts(sound(32000), 3200).forEach { live.push(it, 32000) }
            live.finish()
            assertEquals(listOf(error), told.failures)
            assertEquals(0, told.windows.size)
        }
    }

    @Test
    fun `after cancel nothing is told`() {
        val told = Told()
        val waiting = ArrayDeque<Runnable>()
        val live = LiveTagger(Tagger(bundle, Newest()), waiting::addLast, told, hopSeconds = 1.0, mostWaitingSeconds = 99.0)
        parts(sound(32000), 3200).forEach { live.push(it, 32000) }
        live.cancel()
        live.push(FloatArray(10), 32000)
        live.lose(1.0)
        live.finish()
        while (waiting.isNotEmpty()) waiting.removeFirst().run()
        assertEquals(0, told.windows.size + told.progress.size + told.failures.size)
        assertEquals(1L, told.end.count)
    }

    @Test
    fun `pieces that are no whole frames are refused`() {
        val live = LiveTagger(Tagger(bundle, Newest()), here, Told(), hopSeconds = 1.0)
        for ((size, rate, channels) in listOf(Triple(3, 32000, 2), Triple(4, 0, 2), Triple(4, 32000, 0))) {
            assertRefused<AudioException>("expected whole frames") { live.push(FloatArray(size), rate, channels) }
        }
        assertRefused<AudioException>("a hop of") { LiveTagger(Tagger(bundle, Newest()), here, Told(), hopSeconds = 0.0) }
    }

    @Test
    fun `the hop is a quarter of a window unless the model needs longer`() {
        val cases = mapOf(
            (2.0 to 20.0) to 0.5, (10.0 to 20.0) to 1.0, (1.0 to 20.0) to 0.25, (10.0 to 900.0) to 1.4,
            (2.0 to 400.0) to 0.6, (2.0 to 9000.0) to 2.0, (10.0 to 0.0) to 1.0,
        )
        for ((given, hop) in cases) assertEquals(hop, LiveTagger.hopFor(given.first, given.second), 1e-9)
    }
}
