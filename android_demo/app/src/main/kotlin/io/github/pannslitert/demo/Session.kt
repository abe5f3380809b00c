package io.github.pannslitert.demo

import android.content.Context
import android.content.SharedPreferences
import android.media.AudioDeviceCallback
import android.media.AudioDeviceInfo
import android.media.AudioManager
import android.net.Uri
import android.os.Handler
import android.os.Looper
import android.os.SystemClock
import android.text.format.DateFormat
import io.github.pannslitert.MicrophoneException
import io.github.pannslitert.events.Event
import io.github.pannslitert.events.EventDetector
import io.github.pannslitert.litert.AudioFile
import io.github.pannslitert.litert.ListenOptions
import io.github.pannslitert.litert.Listening
import io.github.pannslitert.litert.ListeningListener
import io.github.pannslitert.litert.ListeningNotification
import io.github.pannslitert.litert.SoundTagger
import io.github.pannslitert.litert.microphones
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.measure.SelfTest
import io.github.pannslitert.tagging.LiveProgress
import io.github.pannslitert.tagging.LongTagging
import io.github.pannslitert.tagging.RecordingEvents
import io.github.pannslitert.tagging.Tagging
import java.util.Date
import kotlin.concurrent.thread

/**
 * The open bundle and what is done with it. It lives as long as the process, independent of the screen.
 *
 * Everything here runs on the main thread and never waits: bundles are opened, recordings read and engines measured on
 * threads of their own. A new wish replaces the running one, whose result is then of no interest.
 */
class Session(private val context: Context) {
    /** Something that runs on a thread of its own. */
    private class Task {
        private var resource: AutoCloseable? = null
        @Volatile var isCancelled = false
            private set

        /** Closes [made] when this task is cancelled. */
        @Synchronized
        fun closeIfCancelled(made: AutoCloseable) {
            resource = made
            if (isCancelled) made.close()
        }

        @Synchronized
        fun cancel() {
            isCancelled = true
            resource?.close()
        }
    }

    private val main = Handler(Looper.getMainLooper())
    private val onDevice = DeviceBundles(context)
    private val kept = context.getSharedPreferences("session", Context.MODE_PRIVATE) // survives the end of the process
    private var state = State()
    private var tagger: SoundTagger? = null
    private var opening: Thread? = null
    private var listening: Listening? = null
    private var task: Task? = null
    private var waiting: Uri? = null // a recording to read when the model is open
    private var screenIsGone = false

    /** Called with the current state when it is set, then with every new state. */
    var onState: ((State) -> Unit)? = null
        set(value) {
            field = value
            value?.invoke(state)
        }

    private val devices = object : AudioDeviceCallback() {
        override fun onAudioDevicesAdded(addedDevices: Array<AudioDeviceInfo>) = listMicrophones()

        override fun onAudioDevicesRemoved(removedDevices: Array<AudioDeviceInfo>) = listMicrophones()
    }

    init {
        context.getSystemService(AudioManager::class.java).registerAudioDeviceCallback(devices, main)
    }

    // --- the screen ---

    /**
     * The screen is visible: looks for bundles, and opens one if none is open.
     *
     * @param mayListen whether the app has the permission for the microphone
     */
    fun start(mayListen: Boolean) {
        screenIsGone = false
        show { listed(onDevice.list()) }
        if (mayListen && state.notice in listOf(Notice.MicrophoneDenied, Notice.WhyMicrophone)) say(null)
        if (state.chosen == null) close() // there was none, or it was removed
        if (state.model == Model.NONE) {
            val wanted = state.chosen ?: state.bundles.find { it.id == kept.getString(BUNDLE, null) }
            (wanted ?: state.bundles.firstOrNull())?.let { open(it) }
        }
        if (kept.getBoolean(LISTENING, false) && listening == null) {
            remember { putBoolean(LISTENING, false) }
            say(Notice.ListeningEnded)
        }
    }

    /** The screen is gone for good. Listening goes on, by its service; other work ends. */
    fun leave() {
        screenIsGone = true
        if (listening == null) close()
    }

    /** Shows a message of the screen; null for none. */
    fun say(notice: Notice?) = show { copy(notice = notice) }

    /** Whether the user should be asked to allow notifications: only once, as listening works without them. */
    fun shouldAskToNotify(): Boolean {
        val asked = kept.getBoolean(ASKED, false)
        remember { putBoolean(ASKED, true) }
        return !asked
    }

    // --- bundles ---

    /** Opens a bundle and closes the one that was open. */
    fun choose(bundle: BundleChoice) {
        if (bundle != state.chosen) open(bundle)
    }

    /** Tries to open the chosen bundle again. */
    fun openAgain() {
        state.chosen?.let { open(it) }
    }

    private fun open(bundle: BundleChoice, notice: Notice? = null) {
        close()
        show { opens(bundle, notice) }
        remember { putString(BUNDLE, bundle.id) }
        val number = state.opening
        opening = thread(name = "open bundle") {
            var attempts = emptyList<EngineChoice.Attempt>()
            val result = runCatching {
                SoundTagger.open(context, onDevice.files(bundle), npu = true, top = TagBars.ROWS) { attempts = it }
            }
            main.post { onOpened(number, result, attempts) }
        }
    }

    private fun onOpened(number: Int, result: Result<SoundTagger>, attempts: List<EngineChoice.Attempt>) {
        val opened = result.getOrNull()
        if (number != state.opening) {
            opened?.close()
            return
        }
        opening = null
        tagger = opened
        when {
            opened != null -> show { opened(number, attempts, opened.bundle.manifest.clipSeconds) }
            attempts.isNotEmpty() && attempts.none { it.passed } -> show { opened(number, attempts, null) }
            else -> show { notOpened(number, inWords(result.exceptionOrNull())) }
        }
        val file = waiting
        waiting = null
        if (file != null) tag(file)
    }

    /** Ends all work and closes the model, also one that is being opened. */
    private fun close() {
        endWork()
        opening?.interrupt()
        opening = null
        closeTagger()
        show { closed() }
    }

    private fun closeTagger() {
        tagger?.close()
        tagger = null
    }

    /** Ends whatever is done, without its result. */
    private fun endWork() {
        task?.cancel()
        task = null
        if (listening != null) onListeningOver { it.cancel() }
        show { ends(notice) }
    }

    // --- listening ---

    /** Takes another microphone; null for Android's choice. If the app listens, it goes on with the new one. */
    fun chooseMicrophone(microphone: MicrophoneChoice?) {
        if (microphone == state.microphone) return
        show { copy(microphone = microphone) }
        if (listening != null && !state.isEnding) {
            onListeningOver { it.cancel() }
            show { ends() }
            listen()
        }
    }

    private fun listMicrophones() = show { withMicrophones(microphoneChoices(context)) }

    /** Starts to listen. The app must have the permission for the microphone, and be visible. */
    fun listen() {
        val ready = tagger
        if (ready == null || !state.canBegin) return
        show { begins(Work.Listening()).copy(heard = Heard(timeline = Timeline(labels = ready.bundle.labels))) }
        val options = ListenOptions(
            microphone = microphones(context).find { it.id == state.microphone?.id },
            pauseOthers = true,
            notification = ListeningNotification(
                title = context.getString(R.string.app_name),
                text = context.getString(R.string.listens),
                stop = context.getString(R.string.stop),
                channel = context.getString(R.string.channel),
                activity = MainActivity::class.java,
            ),
        )
        try {
            val listener = Listener()
            val begun = ready.listen(listener, options)
            listener.hopSeconds = begun.hopSeconds
            listening = begun
            remember { putBoolean(LISTENING, true) }
        } catch (error: Throwable) {
            show { ends(failure(error)) }
        }
    }

    /** Releases the microphone. What was heard before is still tagged. */
    fun stopListening() {
        show { listening { copy(isEnding = true) } }
        listening?.stop()
    }

    private fun onListeningOver(end: (Listening) -> Unit = {}) {
        listening?.let(end)
        listening = null
        remember { putBoolean(LISTENING, false) }
    }

    /** Collects what is heard. Called on the main thread. */
    private inner class Listener : ListeningListener {
        var hopSeconds = 0.0
        private var stepEnd = 0.0
        private val newest = Newest<String>(
            NOTIFY_EVERY_MS,
            now = SystemClock::uptimeMillis,
            later = { ms, task -> main.postDelayed(task, ms) },
            passOn = { listening?.showText(it) },
        )

        override fun onProgress(progress: LiveProgress) = show {
            listening { copy(progress = progress) }.heard {
                copy(
                    timeline = timeline.at(progress.seconds),
                    seconds = progress.seconds,
                    lostSeconds = progress.lostSeconds,
                )
            }
        }

        override fun onWindow(tagging: Tagging) {
            val step = step(tagging)
            show {
                heard {
                    copy(
                        tags = tagging.tags,
                        timeline = timeline.copy(steps = timeline.steps + listOfNotNull(step)),
                        times = tagging.run { Times(backend, frontEndMs, modelMs, fallback) },
                        windowsSkipped = windowsSkipped + if (tagging.unusable == null) 0 else 1,
                        skipped = skipped ?: tagging.unusable,
                    )
                }
            }
        }

        /** The scores of a window apply to one hop around its centre; those of the first one also to the time before. */
        private fun step(tagging: Tagging): Timeline.Step? {
            val start = stepEnd
            stepEnd = tagging.startSeconds + (state.windowSeconds + hopSeconds) / 2
            val scores = tagging.probs.withIndex().filter { it.value >= EventDetector.DEFAULT_OFF }
            return Timeline.Step(start, stepEnd, scores.associate { it.index to it.value })
                .takeIf { tagging.unusable == null }
        }

        override fun onOnset(label: String, start: Double) {
            show { heard { copy(timeline = timeline.begun(label, start)) } }
            val now = Date()
            newest.offer { context.getString(R.string.newest, label, DateFormat.getTimeFormat(context).format(now)) }
        }

        override fun onOffset(event: Event) = show { heard { copy(timeline = timeline.ended(event)) } }

        override fun onMicrophone(microphone: AudioDeviceInfo?) =
            show { listening { copy(microphone = microphone?.let { microphoneName(context, it) }) } }

        override fun onSilenced(silenced: Boolean) = show { listening { copy(isSilenced = silenced) } }

        override fun onInterrupted(interrupted: Boolean) = show { listening { copy(isInterrupted = interrupted) } }

        override fun onEnd() = over(null)

        override fun onFailure(error: Throwable) = over(failure(error))

        private fun over(notice: Notice?) {
            onListeningOver()
            show { ends(notice) }
            if (screenIsGone) close()
        }
    }

    private fun failure(error: Throwable): Notice = when {
        error !is MicrophoneException -> Notice.ListeningFailed(inWords(error))
        error.problem == MicrophoneException.Problem.NO_PERMISSION -> Notice.MicrophoneDenied
        else -> Notice.MicrophoneFailed(error.problem)
    }

    // --- recordings ---

    /** Tags a whole audio file and finds its events; as soon as the model is open. */
    fun tag(uri: Uri) {
        val ready = tagger
        if (state.model == Model.OPENING) waiting = uri
        if (ready == null || !state.canBegin) return
        val labels = ready.bundle.labels
        begin(Work.Reading(), "read recording", { task ->
            val (tagging, damage) = read(task, uri, forEvents = false) { ready.tag(it.recording) to it.warning }
            main.post { ifCurrent(task) { show { copy(heard = heardOf(tagging, damage, labels)) } } }
            val events = read(task, uri, forEvents = true) { ready.findEvents(it.recording) }
            heardOf(tagging, damage, labels, events)
        }) { result ->
            result.onSuccess { show { ends().copy(heard = it) } }
            result.onFailure { show { ends(Notice.FileFailed(inWords(it))) } }
        }
    }

    /** Opens a file for one pass over it, whose progress the screen shows. */
    private fun <T> read(task: Task, uri: Uri, forEvents: Boolean, use: (AudioFile) -> T): T =
        AudioFile.open(context, uri).use { file ->
            task.closeIfCancelled(file)
            main.post { follow(task, file, forEvents) }
            use(file)
        }

    private fun follow(task: Task, file: AudioFile, forEvents: Boolean): Unit = ifCurrent(task) {
        val work = state.work
        if (work is Work.Reading && !(work.forEvents && !forEvents)) { // the second pass may have begun
            show { copy(work = Work.Reading(forEvents, file.decodedSeconds, file.durationSeconds)) }
            main.postDelayed({ follow(task, file, forEvents) }, FOLLOW_EVERY_MS)
        }
    }

    private fun heardOf(
        tagging: LongTagging,
        damage: String?,
        labels: List<String>,
        events: RecordingEvents? = null,
    ) = Heard(
        isFile = true,
        tags = tagging.tags,
        timeline = Timeline(
            end = tagging.seconds,
            now = tagging.seconds,
            labels = labels,
            events = events?.events.orEmpty(),
        ),
        times = tagging.run { Times(backend, frontEndMs, modelMs, fallback) },
        seconds = tagging.seconds,
        windowsSkipped = tagging.windowsSkipped,
        skipped = tagging.skipped,
        damage = damage,
    )

    // --- measuring ---

    /**
     * Measures the open bundle on the CPU, and on the GPU if it passed its self-test. After that, the state has the
     * record to share.
     */
    fun measure() {
        val bundle = tagger?.bundle
        val chosen = state.chosen
        if (bundle == null || chosen == null || !state.canBegin) return
        val gpu = state.attempts.any { it.name == "GPU" && it.passed }
        closeTagger() // frees its memory and its accelerator for the measurement
        begin(Work.Measuring(), "measure", { task ->
            PhoneRecord(context).measure(bundle, SelfTest.open(bundle), gpu, { task.isCancelled }) { setting ->
                main.post { ifCurrent(task) { show { copy(work = Work.Measuring("$setting")) } } }
            }
        }) { result ->
            open(chosen, result.fold({ Notice.Measured(it.runs, it.failures) }, { Notice.MeasuringFailed(inWords(it)) }))
            show { copy(record = result.getOrNull()?.file) }
        }
    }

    /** Ends reading or measuring. */
    fun cancel() {
        val measured = state.chosen.takeIf { state.work is Work.Measuring }
        if (!state.canCancel) return
        endWork()
        if (measured != null) open(measured, Notice.Cancelled) else say(Notice.Cancelled)
    }

    // --- threads ---

    /** Runs work on a thread of its own. [done] gets its result, unless it was cancelled. */
    private fun <T> begin(what: Work, name: String, work: (Task) -> T, done: (Result<T>) -> Unit) {
        val begun = Task()
        task = begun
        show { begins(what) }
        thread(name = name) {
            val result = runCatching { work(begun) } // an Error, too: nobody else would show it
            main.post {
                ifCurrent(begun) {
                    task = null
                    done(result)
                }
            }
        }
    }

    private fun ifCurrent(task: Task, act: () -> Unit) {
        if (this.task === task) act()
    }

    private fun show(change: State.() -> State) {
        state = state.change()
        onState?.invoke(state)
    }

    private fun remember(change: SharedPreferences.Editor.() -> Unit) =
        kept.edit().apply(change).apply()

    private fun inWords(error: Throwable?): String =
        error?.message?.ifBlank { null } ?: error?.javaClass?.simpleName.orEmpty()

    private companion object {
        const val BUNDLE = "bundle"
        const val LISTENING = "listening"
        const val ASKED = "asked to notify"
        const val NOTIFY_EVERY_MS = 1000L
        const val FOLLOW_EVERY_MS = 250L
    }
}
