package io.github.pannslitert.demo

import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Bundle
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.Spinner
import android.widget.TextView
import androidx.core.content.FileProvider
import io.github.pannslitert.measure.EngineChoice
import io.github.pannslitert.tagging.Tagging
import java.io.File

/** The only screen. It shows the state of the session and passes the user's input to it. */
class MainActivity : Activity() {
    private val session get() = (application as DemoApplication).session
    private val chooser by lazy { findViewById<Spinner>(R.id.bundles) }
    private val listen by lazy { findViewById<Button>(R.id.listen) }
    private val pick by lazy { findViewById<Button>(R.id.pick) }
    private val measure by lazy { findViewById<Button>(R.id.measure) }
    private var bundles = emptyList<File>()
    private var listening = false
    private var record: File? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        listen.setOnClickListener { if (listening) session.stopListening() else listenIfAllowed() }
        pick.setOnClickListener { pickFile() }
        measure.setOnClickListener { record?.let(::share) ?: session.measure() }
        chooser.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) =
                session.choose(bundles[position])

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
    }

    override fun onStart() {
        super.onStart()
        session.onState = ::show
        session.start()
    }

    override fun onStop() {
        session.onState = null
        // In the background an app gets only silence from Android. A rotation of the screen must not stop listening.
        if (!isChangingConfigurations) session.stopListening()
        super.onStop()
    }

    override fun onDestroy() {
        if (isFinishing) session.close()
        super.onDestroy()
    }

    private fun listenIfAllowed() {
        if (checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED) {
            session.listen()
        } else {
            requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), ASK_FOR_MICROPHONE)
        }
    }

    override fun onRequestPermissionsResult(requestCode: Int, permissions: Array<String>, grantResults: IntArray) {
        when (grantResults.firstOrNull()) { // empty if the permission dialog was interrupted
            PackageManager.PERMISSION_GRANTED -> session.listen()
            PackageManager.PERMISSION_DENIED -> session.reject(getString(R.string.microphone_denied))
        }
    }

    private fun pickFile() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("audio/*")
        try {
            startActivityForResult(intent, PICK_FILE)
        } catch (_: ActivityNotFoundException) {
            session.reject(getString(R.string.no_picker))
        }
    }

    private fun share(file: File) {
        val uri = FileProvider.getUriForFile(this, "$packageName.shared", file)
        val send = Intent(Intent.ACTION_SEND).setType("application/json").putExtra(Intent.EXTRA_STREAM, uri)
        send.addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        try {
            startActivity(Intent.createChooser(send, getString(R.string.share)))
        } catch (_: ActivityNotFoundException) {
            session.reject(getString(R.string.nobody_to_share_with))
        }
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        data?.data?.let(session::tag)
    }

    private fun show(state: State) {
        showBundles(state)
        listening = state.listening
        listen.setText(if (state.listening) R.string.stop else R.string.listen)
        listen.isEnabled = state.ready
        listen.keepScreenOn = state.listening || state.measuring
        pick.isEnabled = state.ready
        record = state.record
        measure.setText(if (state.record != null) R.string.share else R.string.measure)
        measure.isEnabled = state.ready
        with(findViewById<TextView>(R.id.message)) {
            text = state.message
            setTextColor(if (state.isError) RED else BLACK)
        }
        showAttempt(findViewById(R.id.gpu), state.attempts.getOrNull(0))
        showAttempt(findViewById(R.id.cpu), state.attempts.getOrNull(1))
        findViewById<TextView>(R.id.timings).text = state.tagging?.let(::timings).orEmpty()
        findViewById<BarsView>(R.id.bars).tags = state.tagging?.tags.orEmpty()
        findViewById<TimelineView>(R.id.timeline).timeline = state.timeline
    }

    private fun showBundles(state: State) {
        if (state.bundles != bundles) {
            bundles = state.bundles
            val names = bundles.map(File::getName)
            chooser.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, names)
        }
        val index = bundles.indexOf(state.chosen)
        if (index >= 0 && index != chooser.selectedItemPosition) chooser.setSelection(index)
    }

    private fun showAttempt(view: TextView, attempt: EngineChoice.Attempt?) {
        val figures = attempt?.result?.run {
            val pytorch = getString(R.string.figures, withPytorch.maxAbs, withPytorch.corr, withPytorch.top5)
            val cpu = withOther?.let { getString(R.string.figures_cpu, it.maxAbs, it.corr) }
            listOfNotNull(pytorch, cpu).joinToString("\n")
        }
        val verdict = attempt?.run {
            if (passed) getString(R.string.passed, name) else getString(R.string.failed, name, why)
        }
        view.text = listOfNotNull(verdict, figures).joinToString("\n")
        view.setTextColor(if (attempt?.passed == true) GREEN else RED)
    }

    private fun timings(tagging: Tagging): String {
        val times = with(tagging) { getString(R.string.timings, backend, frontEndMs, modelMs, frontEndMs + modelMs) }
        return tagging.fallback?.let { times + "\n" + getString(R.string.fallback, it) } ?: times
    }

    private companion object {
        const val ASK_FOR_MICROPHONE = 1
        const val PICK_FILE = 2
        const val BLACK = 0xFF212121.toInt()
        const val RED = 0xFFC62828.toInt()
        const val GREEN = 0xFF2E7D32.toInt()
    }
}
