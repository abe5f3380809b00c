package io.github.pannslitert.demo

import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.Settings
import android.view.View
import android.view.WindowInsets
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TextView
import androidx.core.content.FileProvider
import io.github.pannslitert.measure.EngineChoice
import java.io.File

/** The only screen. It shows the state of the session and passes the user's input to it. */
class MainActivity : Activity() {
    private val session get() = (application as DemoApplication).session
    private val texts by lazy { Texts(this) }
    private val bundles by lazy { Choices(R.id.bundles, texts::bundle, session::choose) }
    private val microphones by lazy {
        Choices<MicrophoneChoice?>(R.id.microphones, { it?.name ?: getString(R.string.automatic) }, session::chooseMicrophone)
    }
    private val bars by lazy { TagBars(findViewById(R.id.bars)) }
    private var attempts = emptyList<EngineChoice.Attempt>()
    private var state = State()
    private val onState: (State) -> Unit = ::show

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        keepClearOfBars(findViewById(R.id.screen))
        if (resources.configuration.fontScale > LARGE_FONT) {
            findViewById<LinearLayout>(R.id.others).orientation = LinearLayout.VERTICAL
        }
        onClick(R.id.listen) { if (state.isListening) session.stopListening() else listenIfAllowed() }
        onClick(R.id.pick) { pickFile() }
        onClick(R.id.measure) { state.record?.let(::share) ?: session.measure() }
        onClick(R.id.cancel) { session.cancel() }
        onClick(R.id.action) { state.notice?.action?.let(::act) }
    }

    override fun onStart() {
        super.onStart()
        session.onState = onState
        val allowed = checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED
        session.start(allowed)
    }

    override fun onStop() {
        if (session.onState === onState) session.onState = null // another instance may be visible already
        super.onStop()
    }

    override fun onDestroy() {
        if (isFinishing && isTaskRoot) session.leave()
        super.onDestroy()
    }

    /** Draws behind the bars of the system, with what can be read and pressed clear of them and of cutouts. */
    private fun keepClearOfBars(screen: View) {
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) { // before that, Android itself keeps the screen clear
            window.setDecorFitsSystemWindows(false)
            screen.setOnApplyWindowInsetsListener { view, insets -> insets.also { applyInsets(view, it) } }
        }
    }

    private fun applyInsets(view: View, insets: WindowInsets) {
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            val clear = insets.getInsets(WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout())
            val (left, right) = view.findViewById<View>(R.id.left) to view.findViewById<View>(R.id.right)
            if (left == null || right == null) { // one column
                view.setPadding(clear.left, clear.top, clear.right, clear.bottom)
            } else {
                left.setPadding(clear.left, clear.top, 0, clear.bottom)
                right.setPadding(0, clear.top, clear.right, clear.bottom)
            }
        }
    }

    private fun onClick(id: Int, act: () -> Unit) = findViewById<View>(id).setOnClickListener { act() }

    // --- what the user asks for ---

    private fun act(action: Action) = when (action) {
        Action.ALLOW_MICROPHONE -> askForMicrophone()
        Action.OPEN_SETTINGS -> openSettings()
        Action.LISTEN -> listenIfAllowed()
        Action.OPEN_MODEL -> session.openAgain()
    }

    private fun listenIfAllowed() = when {
        checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED -> askToNotifyOnce()
        shouldShowRequestPermissionRationale(Manifest.permission.RECORD_AUDIO) -> session.say(Notice.WhyMicrophone)
        else -> askForMicrophone()
    }

    private fun askForMicrophone() =
        requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), ASK_FOR_MICROPHONE)

    /** Listens. Before the first time, it asks whether the notification of listening may be shown. */
    private fun askToNotifyOnce() {
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
            val allowed = checkSelfPermission(Manifest.permission.POST_NOTIFICATIONS) == PackageManager.PERMISSION_GRANTED
            if (!allowed && session.shouldAskToNotify()) {
                return requestPermissions(arrayOf(Manifest.permission.POST_NOTIFICATIONS), ASK_TO_NOTIFY)
            }
        }
        session.listen()
    }

    override fun onRequestPermissionsResult(requestCode: Int, permissions: Array<String>, grantResults: IntArray) {
        val result = grantResults.firstOrNull() ?: return // the dialog was interrupted
        when {
            requestCode == ASK_TO_NOTIFY -> session.listen() // it works without the notification, too
            result == PackageManager.PERMISSION_GRANTED -> askToNotifyOnce()
            shouldShowRequestPermissionRationale(Manifest.permission.RECORD_AUDIO) -> session.say(Notice.WhyMicrophone)
            else -> session.say(Notice.MicrophoneDenied) // for good: Android does not ask any more
        }
    }

    private fun openSettings() {
        val settings = Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", packageName, null))
        startActivity(settings)
    }

    private fun pickFile() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")
        intent.putExtra(Intent.EXTRA_MIME_TYPES, arrayOf("audio/*", "video/*", "application/ogg"))
        try {
            startActivityForResult(intent, PICK_FILE)
        } catch (_: ActivityNotFoundException) {
            session.say(Notice.NoPicker)
        }
    }

    private fun share(file: File) {
        val uri = FileProvider.getUriForFile(this, "$packageName.shared", file)
        val send = Intent(Intent.ACTION_SEND).setType("application/json").putExtra(Intent.EXTRA_STREAM, uri)
        send.addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        try {
            startActivity(Intent.createChooser(send, getString(R.string.share)))
        } catch (_: ActivityNotFoundException) {
            session.say(Notice.NobodyToShareWith)
        }
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        data?.data?.let(session::tag)
    }

    // --- what the screen shows ---

    private fun show(next: State) {
        state = next
        bundles.show(next.bundles, next.chosen)
        microphones.show(listOf(null) + next.microphones, next.microphone)
        showButtons(next)
        showProgress(next.work)
        showMessage(next)
        showAttempts(next.attempts)
        showHeard(next.heard)
        setText(R.id.status, texts.status(next))
        setText(R.id.timings, next.heard?.times?.let(texts::times).orEmpty())
    }

    private fun showButtons(state: State) {
        with(findViewById<Button>(R.id.listen)) {
            setText(if (state.isListening) R.string.stop else R.string.listen)
            isEnabled = state.canBegin || (state.isListening && !state.isEnding)
        }
        findViewById<View>(R.id.pick).isEnabled = state.canBegin
        with(findViewById<Button>(R.id.measure)) {
            setText(if (state.record != null) R.string.share else R.string.measure)
            isEnabled = state.canBegin
        }
        findViewById<View>(R.id.cancel).visibility = if (state.canCancel) View.VISIBLE else View.GONE
        findViewById<View>(R.id.screen).keepScreenOn = state.work is Work.Measuring // its speed is that of a phone in use
    }

    private fun showProgress(work: Work?) = with(findViewById<ProgressBar>(R.id.progress)) {
        visibility = if (work is Work.Reading || work is Work.Measuring) View.VISIBLE else View.GONE
        val of = (work as? Work.Reading)?.of
        isIndeterminate = of == null
        if (of != null) progress = (work.seconds / of * max).toInt()
    }

    private fun showMessage(state: State) {
        val silenced = (state.work as? Work.Listening)?.isSilenced == true
        val isError = state.work == null && state.notice?.isError == true || state.isSilent || silenced
        setText(R.id.message, texts.message(state))
        findViewById<TextView>(R.id.message).setTextColor(getColor(if (isError) R.color.failed else R.color.ink))
        val action = state.notice?.action.takeIf { state.work == null }
        with(findViewById<Button>(R.id.action)) {
            visibility = if (action == null) View.GONE else View.VISIBLE
            if (action != null) text = texts.action(action)
            isEnabled = action != Action.LISTEN || state.canBegin
        }
    }

    private fun showAttempts(attempts: List<EngineChoice.Attempt>) {
        if (attempts == this.attempts) return
        this.attempts = attempts
        val list = findViewById<LinearLayout>(R.id.attempts)
        list.removeAllViews()
        for (attempt in attempts) {
            val view = layoutInflater.inflate(R.layout.attempt, list, false) as TextView
            view.text = texts.attempt(attempt)
            view.setTextColor(getColor(if (attempt.passed) R.color.passed else R.color.failed))
            list.addView(view)
        }
    }

    private fun showHeard(heard: Heard?) {
        val visibility = if (heard == null) View.GONE else View.VISIBLE
        for (id in listOf(R.id.bars, R.id.timeline_title, R.id.timeline)) findViewById<View>(id).visibility = visibility
        bars.tags = heard?.tags.orEmpty()
        findViewById<TimelineView>(R.id.timeline).timeline = heard?.timeline ?: Timeline()
        setText(R.id.timeline_title, getString(if (heard?.isFile == true) R.string.whole_file else R.string.last_minute))
        setText(R.id.events, heard?.let(texts::events).orEmpty())
    }

    /** Shows a text if it has changed: a screen reader takes every change for news. */
    private fun setText(id: Int, text: String) {
        val view = findViewById<TextView>(id)
        if (view.text.toString() != text) view.text = text
    }

    /** A chooser of one of several values. */
    private inner class Choices<T>(id: Int, private val name: (T) -> String, private val onChoice: (T) -> Unit) {
        private val spinner = findViewById<Spinner>(id)
        private var values = emptyList<T>()

        init {
            spinner.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
                // Called for the selections of this class, too: the session ignores a choice that is none.
                override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) {
                    if (position in values.indices) onChoice(values[position])
                }

                override fun onNothingSelected(parent: AdapterView<*>?) = Unit
            }
        }

        fun show(values: List<T>, chosen: T?) {
            if (values != this.values) {
                this.values = values
                spinner.adapter = ArrayAdapter(this@MainActivity, R.layout.choice, values.map(name))
            }
            val index = values.indexOf(chosen)
            if (index >= 0 && index != spinner.selectedItemPosition) spinner.setSelection(index)
        }
    }

    private companion object {
        const val ASK_FOR_MICROPHONE = 1
        const val ASK_TO_NOTIFY = 2
        const val PICK_FILE = 3
        const val LARGE_FONT = 1.3f
    }
}
