dependencies { implementation("io.github.pannslitert:tagger-litert:0.1.0") }
