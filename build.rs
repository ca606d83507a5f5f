//! Compiles the service definition of the emulator; without that feature there is nothing to do.

#[cfg(feature = "emulator")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "src/emulator/zerobus.proto";
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PROTO}");
    let mut config = tonic_prost_build::Config::new();
    config.protoc_executable(protoc_bin_vendored::protoc_bin_path()?);
    tonic_prost_build::configure()
        .build_client(false)
        // Records stay slices of the received message; nothing copies them.
        .bytes(".databricks.zerobus")
        .emit_rerun_if_changed(false)
        .compile_with_config(config, &[PROTO], &["src/emulator"])?;
    Ok(())
}

#[cfg(not(feature = "emulator"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
