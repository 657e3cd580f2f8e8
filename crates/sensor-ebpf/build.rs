//! Compiles the BPF programs with clang into objects that the loader embeds.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    // The kernel's uapi headers include <asm/types.h>, which Debian keeps in the directory of the architecture.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let asm = format!("/usr/include/{arch}-linux-gnu");
    // As the kernel and bpf_tracing.h call it.
    let kernel_arch = match arch.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => other,
    };
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-changed=src/bpf");
    for (source, object, defined) in [
        ("process", "process", None),
        ("process", "process_since_6_14", Some("-DSINCE_6_14")),
        ("tasks", "tasks", None),
    ] {
        let status = Command::new(&clang)
            // -g: CO-RE relocations are part of the debug information.
            .args([
                "-g", "-O2", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3",
            ])
            .args(["-I", &asm, "-I", "src/bpf"])
            .arg(format!("-D__TARGET_ARCH_{kernel_arch}"))
            .args(defined)
            .arg("-c")
            .arg(format!("src/bpf/{source}.bpf.c"))
            .arg("-o")
            .arg(out.join(format!("{object}.bpf.o")))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("clang failed on src/bpf/{source}.bpf.c: {status}"),
            Err(error) => panic!("cannot run {clang:?} (install clang and libbpf-dev): {error}"),
        }
    }
}
