package io.github.pannslitert.tagging

import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executor
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.RejectedExecutionException

/** The one thread that opens an engine, uses it and closes it: an [Engine] belongs to its thread. */
class ModelThread : Executor {
    @Volatile private var own: Thread? = null
    private val executor: ExecutorService = Executors.newSingleThreadExecutor { task ->
        Thread(task, "tagger").also { own = it }
    }

    /** Runs a task later. After [end] it is dropped. */
    override fun execute(task: Runnable) {
        try {
            executor.execute(task)
        } catch (_: RejectedExecutionException) {
            return
        }
    }

    /**
     * Runs a task and waits for its result. A call from within a task runs at once.
     *
     * @throws IllegalStateException the thread was ended. Exceptions of the task are passed on
     * @throws InterruptedException the calling thread was interrupted. The task goes on, and nobody gets its result
     */
    fun <T> call(task: () -> T): T {
        if (Thread.currentThread() === own) return task()
        val result = try {
            executor.submit(Callable(task))
        } catch (error: RejectedExecutionException) {
            throw IllegalStateException("this tagger is closed; open another one", error)
        }
        try {
            return result.get()
        } catch (error: ExecutionException) {
            throw error.cause ?: error
        }
    }

    /** Runs a last task, after those that wait, and ends the thread. The second time it does nothing. */
    fun end(task: () -> Unit) {
        execute(task)
        executor.shutdown()
    }
}
