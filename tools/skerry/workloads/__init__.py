"""The measured programs: their manifests, inputs, toolchains and builds."""
