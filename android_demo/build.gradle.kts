// Sets Kotlin's version for the Android modules, too: the Android plugin would bring an older one.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.android.library) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}

// The project has one version, that of the Python package.
val projectVersion = Regex("""^__version__ = "([^"]+)""", RegexOption.MULTILINE)
    .find(rootDir.resolve("../runtime/panns_litert/__init__.py").readText())!!.groupValues[1]

subprojects {
    group = "io.github.pannslitert"
    version = projectVersion

    // What both libraries say of themselves. A publication has the name of its module.
    plugins.withId("maven-publish") {
        configure<PublishingExtension> {
            publications.withType<MavenPublication>().configureEach {
                pom {
                    name = "panns-litert ${project.name}"
                    description = provider { project.description }
                    licenses {
                        license {
                            name = "Apache-2.0"
                            url = "https://www.apache.org/licenses/LICENSE-2.0.txt"
                        }
                    }
                }
            }
        }
    }
}
