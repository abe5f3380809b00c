// Kotlin's version is the tagger's for the app, too: the Android plugin brings an older one along.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}
