package io.github.pannslitert.litert

import android.Manifest
import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.content.pm.PackageManager
import android.content.pm.ServiceInfo
import android.graphics.drawable.Icon
import android.os.Build
import android.os.IBinder
import io.github.pannslitert.MicrophoneException
import io.github.pannslitert.MicrophoneException.Problem

/**
 * Keeps the app listening while its screen is off or another app is visible: a foreground service of type microphone. It
 * shows a notification with a button that ends listening. [SoundTagger.listen] starts and stops it, see
 * [ListenOptions.notification].
 *
 * Android allows it to start only while the app is visible, so it does not start again by itself after Android has ended
 * the app.
 */
class ListeningService : Service() {
    private var number = 0 // of the listening that this service was made for

    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        val current = shown
        when {
            current == null -> stopSelf()
            intent?.action == STOP -> current.listening.stop()
            else -> try {
                val notification = current.notification(this)
                if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
                    startForeground(ID, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_MICROPHONE)
                } else {
                    startForeground(ID, notification)
                }
                number = current.number
            } catch (error: IllegalStateException) {
                refuse(current, error)
            } catch (error: SecurityException) {
                refuse(current, error)
            }
        }
        return START_NOT_STICKY
    }

    /** Listening cannot go on in the background if Android ends this service alone. */
    override fun onDestroy() {
        shown?.takeIf { it.number == number }?.listening?.fail(inBackground("Android has ended the service"))
        super.onDestroy()
    }

    private fun refuse(current: Shown, error: RuntimeException) {
        val allowed = checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED
        current.listening.fail(if (allowed) inBackground(error.message, error) else noPermission(error))
        stopSelf()
    }

    private class Shown(
        val number: Int,
        val what: ListeningNotification,
        val text: CharSequence,
        val listening: Listening,
    ) {
        fun notification(context: Context): Notification {
            val stop = Intent(context, ListeningService::class.java).setAction(STOP)
            val stopIntent = PendingIntent.getService(context, 0, stop, PendingIntent.FLAG_IMMUTABLE)
            val icon = Icon.createWithResource(context, what.icon)
            return Notification.Builder(context, CHANNEL)
                .setContentTitle(what.title)
                .setContentText(text)
                .setSmallIcon(icon)
                .setOngoing(true)
                .setOnlyAlertOnce(true)
                .setContentIntent(what.activity?.let { openIntent(context, it) })
                .addAction(Notification.Action.Builder(icon, what.stop, stopIntent).build())
                .build()
        }

        private fun openIntent(context: Context, activity: Class<*>): PendingIntent {
            val open = Intent(context, activity)
                .addFlags(Intent.FLAG_ACTIVITY_NEW_TASK or Intent.FLAG_ACTIVITY_SINGLE_TOP)
            return PendingIntent.getActivity(context, 0, open, PendingIntent.FLAG_IMMUTABLE)
        }
    }

    internal companion object {
        private const val ID = 7_317 // no other notification of the app should have this number
        private const val CHANNEL = "panns-litert-listening"
        private const val STOP = "io.github.pannslitert.litert.STOP"
        @Volatile private var shown: Shown? = null
        private var count = 0

        /**
         * @throws MicrophoneException the app is in the background, listens with the service already, or has removed it
         *     from its manifest
         */
        @Synchronized
        fun start(context: Context, what: ListeningNotification, listening: Listening) {
            val channel = NotificationChannel(CHANNEL, what.channel, NotificationManager.IMPORTANCE_LOW)
            context.getSystemService(NotificationManager::class.java).createNotificationChannel(channel)
            if (shown != null) {
                throw MicrophoneException(Problem.BUSY, "this app listens in the background already; stop that first")
            }
            shown = Shown(++count, what, what.text, listening)
            val started = try {
                context.startService(Intent(context, ListeningService::class.java))
            } catch (error: IllegalStateException) {
                shown = null
                throw inBackground(error.message, error)
            }
            if (started == null) {
                shown = null
                throw inBackground("ListeningService is not in the app's manifest")
            }
        }

        @Synchronized
        fun show(context: Context, text: CharSequence, listening: Listening) {
            val current = shown?.takeIf { it.listening === listening } ?: return
            val next = Shown(current.number, current.what, text, listening)
            shown = next
            context.getSystemService(NotificationManager::class.java).notify(ID, next.notification(context))
        }

        @Synchronized
        fun stop(context: Context, listening: Listening) {
            if (shown?.listening !== listening) return
            shown = null
            context.stopService(Intent(context, ListeningService::class.java))
        }

        private fun inBackground(why: String?, error: RuntimeException? = null) = MicrophoneException(
            Problem.IN_BACKGROUND,
            "Android does not let this app listen in the background now ($why); listen while it is visible",
            error,
        )
    }
}
