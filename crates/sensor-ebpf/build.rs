//! Compiles the BPF programs with clang into objects that the loader embeds.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    // The kernel's uapi headers include <asm/types.h>, which Debian keeps in the directory of the architecture.
    let (macro_name, asm) = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => ("-D__TARGET_ARCH_x86", "/usr/include/x86_64-linux-gnu"),
        Ok("aarch64") => ("-D__TARGET_ARCH_arm64", "/usr/include/aarch64-linux-gnu"),
        other => panic!("no BPF build for the architecture {other:?}"),
    };
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-changed=src/bpf");
    for name in ["process", "tasks"] {
        let status = Command::new(&clang)
            // -g: CO-RE relocations are part of the debug information.
            .args([
                "-g", "-O2", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3",
            ])
            .args([macro_name, "-I", asm, "-I", "src/bpf"])
            .arg("-c")
            .arg(format!("src/bpf/{name}.bpf.c"))
            .arg("-o")
            .arg(out.join(format!("{name}.bpf.o")))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("clang failed on src/bpf/{name}.bpf.c: {status}"),
            Err(error) => panic!("cannot run {clang:?} (install clang and libbpf-dev): {error}"),
        }
    }
}
