package io.github.pannslitert.demo

import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.tagging.LiveProgress
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

class StateTest {
    private val demo = BundleChoice("demo", isInstalled = false)
    private val mn04 = BundleChoice("mn04", isInstalled = true)
    private val passed = listOf(EngineChoice.Attempt("CPU", null, ""))
    private val ready = State().listed(listOf(mn04, demo)).opens(demo).let { it.opened(it.opening, passed, 10.0) }

    @Test
    fun aModelIsReadyAfterItsSelfTest() {
        val opening = State().listed(listOf(mn04, demo)).opens(demo)
        assertEquals(Model.OPENING to false, opening.model to opening.canBegin)
        assertEquals(Model.READY to true, ready.model to ready.canBegin)
        assertEquals(passed to 10.0, ready.attempts to ready.windowSeconds)
        val none = opening.opened(opening.opening, passed, windowSeconds = null)
        assertEquals(Model.FAILED to Notice.NoEngine, none.model to none.notice)
        assertEquals(passed, none.attempts) // so that the screen can say why
        val damaged = opening.notOpened(opening.opening, "altered")
        assertEquals(Model.FAILED to Notice.NotOpened("altered"), damaged.model to damaged.notice)
        assertFalse(none.canBegin || damaged.canBegin)
    }

    @Test
    fun aNewChoiceSupersedesTheRunningOpening() {
        val first = State().listed(listOf(mn04, demo)).opens(demo)
        val second = first.opens(mn04)
        assertEquals(second, second.opened(first.opening, passed, 10.0))
        assertEquals(second, second.notOpened(first.opening, "altered"))
        assertEquals(Model.READY, second.opened(second.opening, passed, 5.0).model)
        val again = first.opens(demo) // the same bundle, once more
        assertEquals(again, again.opened(first.opening, passed, 10.0))
    }

    @Test
    fun aNewChoiceEndsWhateverWasDone() {
        val busy = ready.begins(Work.Listening()).copy(heard = Heard(), record = File("a.json"))
        val other = busy.opens(mn04)
        assertEquals(listOf(null, null, null, null), listOf(other.work, other.heard, other.notice, other.record))
        assertEquals(listOf<EngineChoice.Attempt>(), other.attempts)
        assertEquals(File("a.json"), busy.opens(demo).record) // a measurement opens the same bundle again
    }

    @Test
    fun oneWorkAtATime() {
        for (work in listOf(Work.Listening(), Work.Reading(), Work.Measuring())) {
            val busy = ready.begins(work)
            assertFalse(busy.canBegin)
            assertEquals(work !is Work.Listening, busy.canCancel)
            assertEquals(work is Work.Listening, busy.isListening)
            val over = busy.ends(Notice.Cancelled)
            assertTrue(over.canBegin)
            assertEquals(Notice.Cancelled to null, over.notice to over.begins(work).notice)
        }
    }

    @Test
    fun whatWasHeardStaysUnlessItIsNothing() {
        val busy = ready.begins(Work.Listening()).copy(heard = Heard())
        assertEquals(null, busy.ends().heard)
        val heard = busy.heard { copy(seconds = 1.0) }
        assertEquals(1.0, heard.ends().heard?.seconds)
        assertEquals(null, heard.closed().heard)
        assertEquals(null, ready.heard { copy(seconds = 1.0) }.heard)
    }

    @Test
    fun bundlesOfTheSameNameAreTwo() {
        assertEquals(listOf("app/demo", "installed/demo"), listOf(false, true).map { BundleChoice("demo", it).id })
    }

    @Test
    fun aBundleThatWasRemovedIsNoLongerChosen() {
        assertEquals(ready, ready.listed(listOf(mn04, demo)))
        val gone = ready.begins(Work.Reading()).listed(listOf(mn04))
        assertEquals(listOf(null, Model.NONE, null), listOf(gone.chosen, gone.model, gone.work))
        val none = ready.listed(listOf())
        assertEquals(Notice.NoBundle to false, none.notice to none.canBegin)
        assertEquals(null, none.listed(listOf(mn04)).notice)
    }

    @Test
    fun anUnpluggedMicrophoneIsNoLongerChosen() {
        val usb = MicrophoneChoice(7, "USB")
        val chosen = ready.withMicrophones(listOf(usb)).copy(microphone = usb)
        assertEquals(usb, chosen.withMicrophones(listOf(MicrophoneChoice(1, "Built-in"), usb)).microphone)
        assertEquals(null, chosen.withMicrophones(listOf(MicrophoneChoice(1, "Built-in"))).microphone)
    }

    @Test
    fun silenceIsSaidAfterSomeSecondsUnlessItsReasonIsKnown() {
        fun silent(seconds: Double, isSilenced: Boolean = false) =
            ready.begins(Work.Listening(LiveProgress(60.0, 0.0, seconds), isSilenced = isSilenced)).isSilent
        assertFalse(ready.begins(Work.Listening()).isSilent)
        assertFalse(silent(2.9))
        assertTrue(silent(3.0))
        assertFalse(silent(30.0, isSilenced = true))
    }
}
