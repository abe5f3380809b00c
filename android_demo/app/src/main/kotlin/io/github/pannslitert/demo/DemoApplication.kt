package io.github.pannslitert.demo

import android.app.Application

/** Owns the session, so that rotating the screen does not stop the microphone or load the model again. */
class DemoApplication : Application() {
    val session by lazy { Session(this) }
}
