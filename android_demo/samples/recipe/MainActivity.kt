package com.example.listen

import android.Manifest
import android.app.Activity
import android.content.pm.PackageManager
import android.os.Bundle
import android.widget.Toast
import io.github.pannslitert.litert.SoundTagger
import java.util.concurrent.Executors

class MainActivity : Activity() {
    private val background = Executors.newSingleThreadExecutor()
    private var tagger: SoundTagger? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), 0)
    }

    override fun onRequestPermissionsResult(code: Int, names: Array<String>, results: IntArray) {
        if (PackageManager.PERMISSION_GRANTED !in results) return // refused, or not answered yet
        background.execute {
            tagger = SoundTagger.open(this, "mn04") // assets/mn04
            tagger?.listen { event -> Toast.makeText(this, event.label, Toast.LENGTH_SHORT).show() }
        }
    }

    override fun onDestroy() {
        background.execute { tagger?.close() }
        super.onDestroy()
    }
}
