plugins {
    alias(libs.plugins.kotlin.jvm)
}

kotlin {
    jvmToolchain(17)
    compilerOptions {
        allWarningsAsErrors = true
    }
}

dependencies {
    implementation(libs.gson)
    testImplementation(libs.junit)
}

// AudioSet's ontology (CC BY-SA 4.0), which the Python runtime has, too. The library reads it as a resource.
tasks.processResources {
    from(rootDir.resolve("../assets/audioset_ontology.json")) {
        into("io/github/pannslitert/sense")
    }
}

tasks.test {
    useJUnit()
    // The tests read files of the repository: the demo bundle and test vectors.
    workingDir = rootDir.parentFile
}
