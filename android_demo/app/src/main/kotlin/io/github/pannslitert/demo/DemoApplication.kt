package io.github.pannslitert.demo

import android.app.Application

/** Holds the session, so that a rotation neither stops the microphone nor loads the model again. */
class DemoApplication : Application() {
    val session by lazy { Session(this) }
}
