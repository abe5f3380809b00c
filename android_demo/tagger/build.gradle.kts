import org.jetbrains.kotlin.gradle.dsl.JvmTarget
import org.jetbrains.kotlin.gradle.dsl.KotlinVersion

plugins {
    alias(libs.plugins.kotlin.jvm)
    `maven-publish`
}

description = "Audio tagging with panns-litert bundles: log-mel, events, streams, with any engine. No Android in it."

kotlin {
    coreLibrariesVersion = libs.versions.library.kotlin.get()
    compilerOptions {
        languageVersion = KotlinVersion.KOTLIN_2_2 // so that an app with this version of Kotlin can use the library
        apiVersion = KotlinVersion.KOTLIN_2_2
        jvmTarget = JvmTarget.JVM_17
        allWarningsAsErrors = true
    }
}

java {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
    withSourcesJar()
}

publishing {
    publications {
        register<MavenPublication>("tagger") {
            from(components["java"])
            pom {
                licenses {
                    license {
                        name = "CC-BY-SA-4.0"
                        url = "https://creativecommons.org/licenses/by-sa/4.0/legalcode.txt"
                        comments = "Only audioset_ontology.json, AudioSet's ontology by Google."
                    }
                }
            }
        }
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
