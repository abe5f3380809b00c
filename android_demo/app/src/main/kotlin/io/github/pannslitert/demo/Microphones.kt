package io.github.pannslitert.demo

import android.content.Context
import android.media.AudioDeviceInfo
import android.os.Build
import io.github.pannslitert.litert.microphones

/** The microphones to choose from. */
fun microphoneChoices(context: Context): List<MicrophoneChoice> =
    microphones(context).map { MicrophoneChoice(it.id, microphoneName(context, it)) }

/** The name of a microphone for people, with that of the product if it is not a part of this device. */
fun microphoneName(context: Context, device: AudioDeviceInfo): String = when (device.type) {
    // Its product name is that of the phone. A phone may have several, at its bottom and its back.
    AudioDeviceInfo.TYPE_BUILTIN_MIC -> context.getString(R.string.built_in, address(device)).trim()
    AudioDeviceInfo.TYPE_WIRED_HEADSET -> context.getString(R.string.headset)
    AudioDeviceInfo.TYPE_USB_DEVICE, AudioDeviceInfo.TYPE_USB_HEADSET, AudioDeviceInfo.TYPE_USB_ACCESSORY ->
        context.getString(R.string.usb, device.productName)
    else -> context.getString(R.string.bluetooth, device.productName)
}

private fun address(device: AudioDeviceInfo): String =
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) device.address else ""
