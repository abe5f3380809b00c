import org.jetbrains.kotlin.gradle.dsl.KotlinVersion

plugins {
    alias(libs.plugins.android.library)
    `maven-publish`
}

description = "Audio tagging on Android with panns-litert bundles and LiteRT."

android {
    namespace = "io.github.pannslitert.litert"
    compileSdk = 36

    defaultConfig {
        minSdk = 26
        consumerProguardFiles("consumer-rules.pro")
        buildConfigField("String", "LITERT_VERSION", "\"${libs.versions.litert.get()}\"")
    }

    buildFeatures {
        buildConfig = true
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    publishing {
        singleVariant("release") {
            withSourcesJar()
        }
    }
}

kotlin {
    coreLibrariesVersion = libs.versions.library.kotlin.get()
    compilerOptions {
        languageVersion = KotlinVersion.KOTLIN_2_2 // so that an app with this version of Kotlin can use the library
        apiVersion = KotlinVersion.KOTLIN_2_2
    }
}

// The Android plugin makes the component late.
afterEvaluate {
    publishing {
        publications {
            register<MavenPublication>("tagger-litert") {
                from(components["release"])
            }
        }
    }
}

dependencies {
    api(project(":tagger"))
    api(libs.litert) // LiteRtEngine takes its Accelerator and throws its LiteRtException
    implementation(libs.litert.gpu)
}
