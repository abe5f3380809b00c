plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "io.github.pannslitert.demo"
    compileSdk = 36

    defaultConfig {
        applicationId = "io.github.pannslitert.demo"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = project.version.toString()
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    androidResources {
        noCompress += "tflite" // so that LiteRT can map it into memory
    }

    // The demo bundle, which copyDemoBundle copies from assets/ of the repository.
    sourceSets["main"].assets.directories += "build/assets"
}

dependencies {
    implementation(project(":tagger-litert"))
    implementation(libs.androidx.core) // only for FileProvider
    testImplementation(libs.junit)
}

val copyDemoBundle by tasks.registering(Sync::class) {
    from(rootDir.resolve("../assets/demo_bundle"))
    into(layout.buildDirectory.dir("assets/bundles/demo"))
}

tasks.named("preBuild") {
    dependsOn(copyDemoBundle)
}
