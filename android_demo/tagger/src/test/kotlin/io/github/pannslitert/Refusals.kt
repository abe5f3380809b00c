package io.github.pannslitert

/** Fails unless [run] throws a [T] whose message contains [message]. */
internal inline fun <reified T : Throwable> assertRefused(message: String, run: () -> Unit) {
    try {
        run()
    } catch (error: Throwable) {
        if (error is T && message in error.message.orEmpty()) return
        throw AssertionError("expected ${T::class.java.simpleName} with \"$message\"", error)
    }
    throw AssertionError("nothing was refused; expected ${T::class.java.simpleName} with \"$message\"")
}
