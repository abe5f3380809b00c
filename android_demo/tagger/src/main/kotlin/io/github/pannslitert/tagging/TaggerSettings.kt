package io.github.pannslitert.tagging

import io.github.pannslitert.BundleException
import io.github.pannslitert.LabelException
import io.github.pannslitert.MOST_JSON_BYTES
import io.github.pannslitert.SettingsException
import io.github.pannslitert.StrictJson
import io.github.pannslitert.bundle.Bundle
import io.github.pannslitert.decodeUtf8
import io.github.pannslitert.events.EventSettings
import io.github.pannslitert.readRegular
import io.github.pannslitert.sense.Sense
import io.github.pannslitert.sense.unknownLabel
import java.io.File
import java.io.IOException

/**
 * Thresholds and temperature of a model, which `panns-litert evaluate --write-settings` writes.
 *
 * ```kotlin
 * val settings = TaggerSettings.read(File(folder, "settings.json")).also { it.requireModel(bundle) }
 * val sense = settings.sense(bundle.labels)
 * tagger.findEvents(recording, settings = settings.events, sense = sense)
 * ```
 *
 * @property events the thresholds, of the scores that [sense] gives; `on` is also the least score of a tag
 * @property temperature as for [Sense]: 1 if only single classes have one
 * @property temperatures the temperature of single classes, by name
 * @property groups as for [Sense], if the thresholds are of groups; null if they are of the model's classes
 * @property model name of the model that the settings were chosen for; null if that is unknown
 * @property modelSha256 SHA-256 of its .tflite; null if unknown
 * @property data what the settings were chosen on, for people
 */
class TaggerSettings private constructor(
    val events: EventSettings,
    val temperature: Double,
    val temperatures: Map<String, Double>,
    val groups: Map<String, List<String>>?,
    val model: String?,
    val modelSha256: String?,
    val data: String?,
) {
    /**
     * The [Sense] with this temperature and these groups.
     *
     * @param labels the model's class names, such as `bundle.labels`
     * @throws LabelException a name in the settings is none of the classes, or of the groups
     */
    fun sense(labels: List<String>): Sense =
        Sense(labels, temperature, temperatures, groups = groups).also { thresholds(it.labels) }

    /**
     * The least score of a tag of every class: its `on`.
     *
     * @param labels names of the scores, such as `Sense.labels`
     * @throws LabelException there are thresholds of a class that is not in [labels]
     */
    fun thresholds(labels: List<String>): DoubleArray {
        events.classes.keys.firstOrNull { it !in labels }?.let { throw unknownLabel(it, labels) }
        return DoubleArray(labels.size) { events.of(labels[it]).on }
    }

    /**
     * Checks that the settings are for this bundle's model. Settings that name no model are for any.
     *
     * @throws SettingsException they are for another model
     */
    fun requireModel(bundle: Bundle) {
        val own = bundle.modelSha256
        if (modelSha256 != null && modelSha256 != own) {
            throw SettingsException(
                "settings of $model (${modelSha256.take(SHOWN_HASH)}…); ${bundle.files} is ${bundle.manifest.model} " +
                    "(${own.take(SHOWN_HASH)}…); choose them again for that bundle: " +
                    "panns-litert evaluate --write-settings FILE",
            )
        }
    }

    companion object {
        private const val SHOWN_HASH = 12
        private val SHA256 = Regex("[0-9a-f]{64}")

        /**
         * Reads a file of settings, or one with thresholds alone. Every value is checked.
         *
         * @throws SettingsException the file is missing, larger than 4 MiB or not JSON, a field is unknown, or a value is
         *     invalid
         */
        fun read(file: File): TaggerSettings = try {
            parse(decodeUtf8(readRegular(file, MOST_JSON_BYTES), file.name))
        } catch (error: IOException) {
            throw SettingsException("${error.message}; expected a file of settings", error)
        } catch (error: SettingsException) {
            throw SettingsException("${file.name}: ${error.message}", error)
        }

        internal fun parse(text: String): TaggerSettings = try {
            StrictJson.parse(text, "settings").whole {
                val events = EventSettings(
                    on = given("on") { number(it) } ?: EventSettings().on,
                    off = given("off") { number(it) },
                    minDuration = given("min_duration") { number(it) } ?: 0.0,
                    maxGap = given("max_gap") { number(it) } ?: 0.0,
                    cooldown = given("cooldown") { number(it) } ?: 0.0,
                    classes = given("classes") { name -> map(name) { child(it).whole(::own) } } ?: mapOf(),
                )
                val one = if (isObject("temperature")) null else given("temperature") { number(it) }
                val each = if (isObject("temperature")) map("temperature") { number(it) } else mapOf()
                TaggerSettings(
                    events,
                    temperature = one ?: 1.0,
                    temperatures = each,
                    groups = given("groups") { name -> map(name) { strings(it) } },
                    model = given("model") { string(it) },
                    modelSha256 = given("model_sha256") { string(it) },
                    data = given("data") { string(it) },
                )
            }.also { it.requireValid() }
        } catch (error: BundleException) { // of StrictJson
            throw SettingsException(error.message.orEmpty(), error)
        }

        private fun own(json: StrictJson) = EventSettings.Own(
            on = json.given("on") { number(it) },
            off = json.given("off") { number(it) },
            minDuration = json.given("min_duration") { number(it) },
            maxGap = json.given("max_gap") { number(it) },
            cooldown = json.given("cooldown") { number(it) },
        )

        private fun TaggerSettings.requireValid() {
            requireThresholds(events.of(""), "")
            for (name in events.classes.keys) requireThresholds(events.of(name), "$name: ")
            if ((model == null) != (modelSha256 == null)) {
                throw SettingsException("only one of model and model_sha256; expected both, or none for any model")
            }
            if (modelSha256 != null && !SHA256.matches(modelSha256)) {
                throw SettingsException("model_sha256 $modelSha256; expected 64 hexadecimal digits")
            }
            for (value in temperatures.values + temperature) {
                if (!(value > 0.0)) throw SettingsException("temperature $value; expected a number > 0")
            }
            if (groups != null && (groups.isEmpty() || groups.values.any { it.isEmpty() })) {
                throw SettingsException("groups $groups; expected at least one, with at least one class each")
            }
        }

        private fun requireThresholds(values: EventSettings, where: String) {
            val (on, off) = values.on to (values.off ?: 0.0)
            if (!(0.0 <= off && off <= on && on <= 1.0)) {
                throw SettingsException("${where}on $on, off $off; expected 0 ≤ off ≤ on ≤ 1")
            }
            val durations = listOf(
                "min_duration" to values.minDuration,
                "max_gap" to values.maxGap,
                "cooldown" to values.cooldown,
            )
            for ((name, seconds) in durations) {
                if (seconds < 0.0) throw SettingsException("$where$name $seconds; expected a number ≥ 0")
            }
        }
    }
}
